"""The processes of a stack and the ports that they need. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from schemas.topics import stages
from stack.errors import OperatorError

PROXY = "haproxy"
LINKED = ("ingest", "gateway")
"""Kinds of processes that may have a link to Redis of their own."""


@dataclass(frozen=True, slots=True)
class Topology:
    """The names of the processes. A process that is the only one of its kind has the name of the kind."""

    kind: str
    brokers: tuple[str, ...]
    caches: tuple[str, ...]
    ingests: tuple[str, ...]
    gateways: tuple[str, ...]
    workers: tuple[str, ...]
    is_replicated: bool
    is_proxied: bool

    @property
    def is_cluster(self) -> bool:
        """Return whether there are several processes of each kind."""
        return self.kind == "cluster"

    @property
    def apps(self) -> tuple[str, ...]:
        """Our own processes."""
        return (*self.ingests, *self.gateways, *self.workers, "audit")

    @property
    def edges(self) -> dict[str, str]:
        """The edges on which a proxy may stand, where MILLRACE_PROXY_PORTS says so, each with the port behind it.

        ``postgres``, ``kafka``, ``valkey`` lead our own processes to a server, ``ingest-valkey`` only the ingest, and
        ``postgres-replica`` the replica to its primary. In a cluster ``peers-of-kafka-1`` and ``controller-of-kafka-1``
        lead the other brokers to one, and ``bus-of-valkey-1`` the other nodes; these name each other to clients, and so
        have one proxy each for all of them.
        """
        links = {f"{kind}-{cache}": cache for cache in self.caches for kind in LINKED}
        return {
            **{name: name for name in ("postgres", *self.caches)},
            **{broker: f"{broker}-via" for broker in self.brokers},
            **({"postgres-replica": "postgres"} if self.is_replicated else {}),
            **(self._edges_within() if self.is_cluster else links),
        }

    def _edges_within(self) -> dict[str, str]:
        return {
            **{f"peers-of-{broker}": broker for broker in self.brokers},
            **{f"controller-of-{broker}": f"{broker}-controller" for broker in self.brokers},
            **{f"bus-of-{cache}": f"{cache}-bus" for cache in self.caches},
        }

    def public(self, app: str) -> str | None:
        """Return the name of the port on which clients reach this process; None for a stage."""
        for first, name in ((self.ingests, "http"), (self.gateways, "ws")):
            if app in first:
                return name if app == first[0] and not self.is_proxied else app
        return None

    @property
    def ports(self) -> tuple[str, ...]:
        """The names of all ports."""
        names = ["http", "ws", "postgres", *(["postgres-replica"] if self.is_replicated else [])]
        for cache in self.caches:
            names += [cache, *([f"{cache}-bus"] if self.is_cluster else [])]
        for broker in self.brokers:
            names += [broker, f"{broker}-controller"]
        names += [name for app in self.apps if (name := self.public(app)) and name not in names]
        return (*names, *(f"{name}-ops" for name in (*self.apps, *([PROXY] if self.is_proxied else []))))


def single() -> Topology:
    """Return one process of each kind. Raises BadTopics."""
    return Topology("single", ("kafka",), ("valkey",), ("ingest",), ("gateway",), stages(), False, False)


def _numbered(name: str, count: int) -> tuple[str, ...]:
    return tuple(f"{name}-{n}" for n in range(1, count + 1))


def cluster(*, is_proxied: bool) -> Topology:
    """Return the topology of production, on one machine."""
    return Topology(
        "cluster",
        brokers=_numbered("kafka", 3),
        caches=_numbered("valkey", 3),
        ingests=_numbered("ingest", 2),
        gateways=_numbered("gateway", 3),
        workers=tuple(name for stage in stages() for name in _numbered(stage, 2)),
        is_replicated=True,
        is_proxied=is_proxied,
    )


def processes_named(topology: Topology, names: Iterable[str]) -> tuple[str, ...]:
    """Return our own processes that the names stand for: a process, or all of a kind. Raises OperatorError."""
    apps = topology.apps
    for name in names:
        if name not in apps and name not in map(role, apps):
            kinds = ", ".join(dict.fromkeys(map(role, apps)))
            raise OperatorError(f"{name} is not a process of the stack; there are {kinds}")
    return tuple(app for app in apps if app in names or role(app) in names)


def node_name(name: str, *, is_cluster: bool) -> str:
    """Return the MILLRACE_NODE of a process: its name with a number."""
    return name if is_cluster else f"{name}-1"


def module_of(name: str) -> tuple[str, ...]:
    """Return what follows ``python -m`` to run a process."""
    kind = role(name)
    return ("streams", kind) if kind in stages() else (kind,)


def role(name: str) -> str:
    """Return the kind of a process: its name without its number."""
    stem, _, number = name.rpartition("-")
    return stem if stem and number.isdigit() else name


def detours(text: str | None, known: Iterable[str]) -> dict[str, int]:
    """Return the ports in ``MILLRACE_PROXY_PORTS``: edge of the topology → port of the proxy that stands on it.

    Raises OperatorError.
    """
    try:
        ports = json.loads(text or "{}")
    except ValueError as exc:
        raise OperatorError('MILLRACE_PROXY_PORTS must be of the form {"postgres": 21000}') from exc
    if not isinstance(ports, dict) or not all(isinstance(port, int) and 0 < port < 65_536 for port in ports.values()):
        raise OperatorError('MILLRACE_PROXY_PORTS must be of the form {"postgres": 21000}')
    if strange := sorted(ports.keys() - set(known)):
        raise OperatorError(f"MILLRACE_PROXY_PORTS names {', '.join(strange)}; there is {', '.join(known)}")
    return ports
