"""Faults of the network, made by the fault proxy before a server."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from verify.fault_proxy import FaultProxy, Trap
from verify.faults.target import Target

# A COMMIT, and its answer (CommandComplete, its length, its tag), in a simple query as in a pipeline.
COMMIT = b"COMMIT\x00"
COMMITTED = b"C\x00\x00\x00\x0bCOMMIT\x00"
# Only in a pipeline, where a Parse carries it and NoData comes before the answer: so ingest accepts messages.
ACCEPTING = b"\x00" + COMMIT
ACCEPTED = b"n\x00\x00\x00\x04" + COMMITTED


@dataclass(slots=True)
class _Edge:
    role: str
    name: str = field(init=False)
    recover_s: float = 45.0
    single_process: bool = False
    _proxy: FaultProxy | None = None

    @property
    def targets(self) -> tuple[str, ...]:
        return (self.role,)

    def _choose(self, target: Target) -> FaultProxy:
        self._proxy = target.edge(self.role)
        return self._proxy

    async def heal(self, target: Target) -> None:
        if self._proxy is not None:
            await self._proxy.heal()
            self._proxy = None


@dataclass(slots=True)
class Blackhole(_Edge):
    """Lets nothing pass, in one direction or both, and keeps the connections open."""

    lasts_s: float = 10.0
    direction: Literal["both", "up", "down"] = "both"

    def __post_init__(self) -> None:
        self.name = f"hole-{self.role}"

    async def inject(self, target: Target) -> None:
        proxy = self._choose(target)
        proxy.up.black_hole = self.direction in ("both", "up")
        proxy.down.black_hole = self.direction in ("both", "down")


@dataclass(slots=True)
class Cut(_Edge):
    """Resets all connections."""

    lasts_s: float = 0.0

    def __post_init__(self) -> None:
        self.name = f"cut-{self.role}"

    async def inject(self, target: Target) -> None:
        self._choose(target).reset()


@dataclass(slots=True)
class CutAt(_Edge):
    """Resets the connection on which the server is about to send ``pattern``: the work is done, and the client cannot
    know."""

    lasts_s: float = 5.0
    pattern: bytes = ACCEPTED

    def __post_init__(self) -> None:
        self.name = f"cut-answer-{self.role}"

    async def inject(self, target: Target) -> None:
        self._choose(target).down.trap = Trap(pattern=self.pattern)


@dataclass(slots=True)
class Slow(_Edge):
    """Adds latency and jitter, and narrows the bandwidth."""

    lasts_s: float = 15.0
    latency_s: float = 0.2
    bandwidth: float = 64_000.0

    def __post_init__(self) -> None:
        self.name = f"slow-{self.role}"

    async def inject(self, target: Target) -> None:
        self._choose(target).slow(self.latency_s, self.latency_s / 4, self.bandwidth)


@dataclass(slots=True)
class Refuse(_Edge):
    """Refuses new connections and resets the open ones: the server looks down."""

    lasts_s: float = 8.0

    def __post_init__(self) -> None:
        self.name = f"refuse-{self.role}"

    async def inject(self, target: Target) -> None:
        proxy = self._choose(target)
        proxy.refuse()
        proxy.reset()
