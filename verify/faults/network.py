"""Faults of the network, made by the fault proxies before servers and before the front doors."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from verify.fault_proxy import FaultProxy, Trap
from verify.faults.fault import Fault
from verify.faults.target import NotPossible, Target

# The drafts that ingest stores by a function, and the first column of its answer, which comes after the commit.
ACCEPTING = b'[{"nth":1,'
ACCEPTED = b"nth\x00"
# A COMMIT, and its answer (CommandComplete, its length, its tag), in a simple query as in a pipeline.
COMMIT = b"COMMIT\x00"
COMMITTED = b"C\x00\x00\x00\x0bCOMMIT\x00"
# Only in a pipeline, where a Parse carries it: of drafts that are not plain.
DECIDING = b"\x00" + COMMIT


EDGE = "edge:"
"""Prefix of the needs of a fault of an edge."""


LINKS: Mapping[str, str] = {
    "postgres": "our processes and PostgreSQL",
    "kafka": "our processes and a broker",
    "valkey": "our processes and a Redis node",
    "ingest-valkey": "ingest and Redis",
    "gateway-valkey": "the gateway and Redis",
    "postgres-replica": "PostgreSQL and its replica",
    "http": "HTTP clients and the stack",
    "ws": "WebSocket clients and the stack",
}
"""Edges, each with its two sides."""
WITHIN: Mapping[str, tuple[str, ...]] = {"kafka": ("peers", "controller"), "valkey": ("bus",)}
"""Edges from the other nodes of a cluster to one."""


@dataclass(slots=True, kw_only=True)
class _Edge(Fault):
    """A fault of an edge. ``edge`` names its proxy; ``roles`` are those that the fault breaks."""

    edge: str
    roles: tuple[str, ...] = ()
    recover_s: float = 25.0
    _proxies: list[FaultProxy] = field(default_factory=list)
    _before: int = 0

    def _called(self, kind: str, summary: str, suffix: str = "") -> None:
        self.name, self.summary = f"{kind}-{self.edge}{suffix}", summary
        self.targets, self.needs = self.roles or (self.edge,), f"{EDGE}{self.edge}"

    async def inject(self, target: Target) -> None:
        self._proxies = target.edge(self.edge)
        self._before = sum(map(self._count, self._proxies))
        for proxy in self._proxies:
            self._spoil(proxy)

    @abstractmethod
    def _spoil(self, proxy: FaultProxy) -> None:
        """Change what the proxy does."""

    @abstractmethod
    def _count(self, proxy: FaultProxy) -> int:
        """Return how much has met this kind of fault so far."""

    @abstractmethod
    def _told(self, count: int) -> str:
        """Return the evidence for so much."""

    async def heal(self, target: Target) -> None:
        for proxy in self._proxies:
            await proxy.heal()
        if count := sum(map(self._count, self._proxies)) - self._before:
            self.evidence = self._told(count)
        self._proxies = []


@dataclass(slots=True, kw_only=True)
class Blackhole(_Edge):
    """Lets nothing pass, in one direction or both, and keeps the connections open."""

    lasts_s: float = 10.0
    suffix: str = ""

    def __post_init__(self) -> None:
        self._called("hole", f"lets nothing pass between {LINKS[self.edge]} for {self.lasts_s:.0f} s", self.suffix)

    def _spoil(self, proxy: FaultProxy) -> None:
        proxy.black_hole()

    def _count(self, proxy: FaultProxy) -> int:
        return proxy.counts.held

    def _told(self, count: int) -> str:
        return f"{count} bytes held"


@dataclass(slots=True, kw_only=True)
class Split(Fault):
    """Cuts a node off from the others of its cluster: they do not reach it. It reaches them, and clients reach all.

    ``of_all``: no node reaches another. A Redis node that reaches the others is not missed by them.
    """

    server: str
    of_all: bool = False
    lasts_s: float = 35.0
    recover_s: float = 35.0
    _proxies: list[FaultProxy] = field(default_factory=list)
    _before: int = 0

    def __post_init__(self) -> None:
        self.name, self.targets = f"split-{self.server}", (self.server,)
        self.needs = f"{EDGE}{WITHIN[self.server][0]}-of-{self.server}"
        whom = f"between nodes of {self.server}" if self.of_all else f"from the other nodes to a {self.server}"
        self.summary = f"lets nothing pass {whom} for {self.lasts_s:.0f} s"

    async def inject(self, target: Target) -> None:
        names = [name for name, _ in target.living(self.server)] if self.of_all else [target.choose(self.server)[0]]
        edges = [f"{edge}-of-{name}" for name in names for edge in WITHIN[self.server]]
        if not edges or not target.proxies.keys() >= set(edges):
            raise NotPossible(f"no fault proxies stand between nodes of {self.server}")
        self._proxies = [target.proxies[edge] for edge in edges]
        self._before = self._held()
        for proxy in self._proxies:
            proxy.black_hole()

    def _held(self) -> int:
        return sum(proxy.counts.held for proxy in self._proxies)

    async def heal(self, target: Target) -> None:
        for proxy in self._proxies:
            await proxy.heal()
        if held := self._held() - self._before:
            self.evidence = f"{held} bytes held"
        self._proxies = []


@dataclass(slots=True, kw_only=True)
class Cut(_Edge):
    """Resets all connections."""

    recover_s: float = 15.0

    def __post_init__(self) -> None:
        self._called("cut", f"resets all connections between {LINKS[self.edge]}")

    def _spoil(self, proxy: FaultProxy) -> None:
        proxy.reset()

    def _count(self, proxy: FaultProxy) -> int:
        return proxy.counts.reset

    def _told(self, count: int) -> str:
        return f"{count} connections reset"


@dataclass(slots=True, kw_only=True)
class CutAt(_Edge):
    """Resets each connection on which the server is about to send ``pattern``: the work is done, and the client cannot
    know."""

    lasts_s: float = 5.0
    recover_s: float = 15.0
    pattern: bytes = ACCEPTED

    def __post_init__(self) -> None:
        self._called(
            "cut-answer",
            f"resets each connection on which PostgreSQL is about to answer that messages are stored,"
            f" for {self.lasts_s:.0f} s",
        )

    def _spoil(self, proxy: FaultProxy) -> None:
        proxy.down.trap = Trap(pattern=self.pattern, again=True)

    def _count(self, proxy: FaultProxy) -> int:
        return proxy.counts.sprung

    def _told(self, count: int) -> str:
        return f"the trap sprang {count} times"


@dataclass(slots=True, kw_only=True)
class Slow(_Edge):
    """Adds latency and jitter, and narrows the bandwidth."""

    lasts_s: float = 15.0
    latency_s: float = 0.2
    bandwidth: float = 64_000.0

    def __post_init__(self) -> None:
        figures = f"{self.latency_s * 1000:.0f} ms later, {self.bandwidth / 1000:.0f} kB/s"
        self._called("slow", f"slows what passes between {LINKS[self.edge]}: {figures}")

    def _spoil(self, proxy: FaultProxy) -> None:
        proxy.slow(self.latency_s, self.latency_s / 4, self.bandwidth)

    def _count(self, proxy: FaultProxy) -> int:
        return proxy.counts.slowed

    def _told(self, count: int) -> str:
        return f"{count} bytes slowed down"


@dataclass(slots=True, kw_only=True)
class Slices(_Edge):
    """Sends each byte alone."""

    lasts_s: float = 15.0
    recover_s: float = 15.0

    def __post_init__(self) -> None:
        self._called("slices", f"sends each byte between {LINKS[self.edge]} alone, for {self.lasts_s:.0f} s")

    def _spoil(self, proxy: FaultProxy) -> None:
        proxy.up.slices = proxy.down.slices = True

    def _count(self, proxy: FaultProxy) -> int:
        return proxy.counts.sliced

    def _told(self, count: int) -> str:
        return f"{count} bytes sent alone"


@dataclass(slots=True, kw_only=True)
class Refuse(_Edge):
    """Refuses new connections and resets the open ones: the server looks down."""

    lasts_s: float = 8.0

    def __post_init__(self) -> None:
        self._called("refuse", f"refuses connections between {LINKS[self.edge]} for {self.lasts_s:.0f} s")

    def _spoil(self, proxy: FaultProxy) -> None:
        proxy.refuse()
        proxy.reset()

    def _count(self, proxy: FaultProxy) -> int:
        return proxy.counts.reset

    def _told(self, count: int) -> str:
        return f"{count} connections reset"
