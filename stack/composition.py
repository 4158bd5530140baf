"""What makes up a stack on one machine: the servers, given by URL or embedded, and our own processes."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

from domain.errors import Unavailable
from stack.child import Child, answers
from stack.errors import OperatorError
from stack.progress import Progress
from stack.servers.data_dir import Folder
from stack.servers.haproxy import Backend, HAProxy
from stack.servers.kafka import Kafka, Via
from stack.servers.postgres import Postgres
from stack.servers.replica import Replica
from stack.servers.valkey import Valkey, cluster_url
from stack.tokens import signs_its_own
from stack.topology import PROXY, STAGES, Topology, role

MODULES = {"audit": "audit"}
GIVEN = {"pg": "MILLRACE_PG__DSN", "kafka": "MILLRACE_KAFKA__BOOTSTRAP", "redis": "MILLRACE_REDIS__URL"}
CHILD = {"pg": "postgres", "kafka": "kafka", "redis": "valkey"}

Make: TypeAlias = Callable[[], Awaitable[Child]]


@dataclass(frozen=True, slots=True)
class Given:
    """A server that somebody else runs."""

    name: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Where:
    """The addresses of the three servers."""

    pg: str = field(repr=False)
    kafka: str
    redis: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """The servers: where they are, also as our own processes see them, and those that we run ourselves.

    ``join`` makes one cluster of the caches that have started.
    """

    where: Where
    seen: Where
    brokers: tuple[Make, ...] = ()
    database: tuple[Make, ...] = ()
    replica: tuple[Make, ...] = ()
    caches: tuple[Make, ...] = ()
    join: Callable[[], Awaitable[None]] | None = None
    given: tuple[Given, ...] = ()

    @property
    def is_broker_alone(self) -> bool:
        """Whether the broker is ours, and has no other to replicate to."""
        return len(self.brokers) == 1


@dataclass(frozen=True, slots=True)
class Plan:
    """All that must be known before anything starts. ``via``: see ``stack.topology.detours``."""

    folder: Folder
    topology: Topology
    ports: Mapping[str, int]
    via: Mapping[str, int] = field(default_factory=dict)
    wrap: str | None = None


def servers(plan: Plan, given: tuple[Given, ...], progress: Progress) -> Servers:
    """The servers of the stack: each one as given in the environment, else embedded."""
    ports, own = plan.ports, {"postgres", "kafka", "valkey"} - {g.name for g in given}
    url = {name: os.environ.get(variable, "") for name, variable in GIVEN.items()}
    postgres = Postgres(plan.folder, ports["postgres"], progress)
    replicas = [Replica(postgres, ports["postgres-replica"])] if plan.topology.is_replicated else []
    brokers = _brokers(plan, progress)
    caches = [Valkey(plan.folder, ports[name], name, ports.get(f"{name}-bus")) for name in plan.topology.caches]
    redis = url["redis"] or cache_url(plan)
    where = Where(url["pg"] or postgres.dsn, url["kafka"] or ",".join(b.bootstrap for b in brokers), redis)
    seen = Where(
        url["pg"] or Postgres(plan.folder, plan.via.get("postgres", postgres.port)).dsn,
        url["kafka"] or ",".join(f"127.0.0.1:{b.via.proxy_port if b.via else b.port}" for b in brokers),
        url["redis"] or cache_url(plan, plan.via),
    )
    is_cluster = len(caches) > 1 and "valkey" in own
    return Servers(
        where=where,
        seen=seen,
        brokers=tuple(b.prepare for b in brokers if "kafka" in own),
        database=(postgres.prepare,) if "postgres" in own else (),
        replica=tuple(r.prepare for r in replicas if "postgres" in own),
        caches=tuple(c.prepare for c in caches if "valkey" in own),
        join=partial(join_caches, redis, caches) if is_cluster else None,
        given=given,
    )


def _brokers(plan: Plan, progress: Progress) -> list[Kafka]:
    names, ports = plan.topology.brokers, plan.ports
    controllers = {number: ports[f"{name}-controller"] for number, name in enumerate(names, 1)}
    via: dict[str, Via] = {}
    if any(name in plan.via for name in names):
        # All have the second listener: a client is told of the others by the name of the one that it came through.
        second = {name: ports[f"{name}-via"] for name in names}
        via = {name: Via(port, plan.via.get(name, port)) for name, port in second.items()}
    return [
        Kafka(
            plan.folder,
            ports[name],
            ports[f"{name}-controller"],
            progress,
            name=name,
            node_id=number,
            controllers=controllers,
            via=via.get(name),
        )
        for number, name in enumerate(names, 1)
    ]


def cache_url(plan: Plan, via: Mapping[str, int] | None = None) -> str:
    """How to connect to the cache, or to the cluster of caches."""
    names = plan.topology.caches
    if len(names) == 1:
        return Valkey(plan.folder, (via or {}).get(names[0], plan.ports[names[0]])).url
    return cluster_url(plan.folder, [plan.ports[name] for name in names])


async def join_caches(url: str, caches: Sequence[Valkey]) -> None:
    """Make one cluster of them. Raises OperatorError."""
    from adapters.redis.cluster_setup import Member, form

    try:
        await form(url, [Member("127.0.0.1", cache.port, cache.bus_port or 0) for cache in caches])
    except Unavailable as exc:
        raise OperatorError(f"{exc}; see the logs, or move the folders valkey-… away: they hold only hints") from exc


async def find_given() -> tuple[Given, ...]:
    """The servers given by URL. Raises OperatorError when one does not answer, naming the variable, no password."""
    found = []
    for name, variable in GIVEN.items():
        text = os.environ.get(variable)
        if text:
            host, port = _address(name, text, variable)
            await _reach(host, port, name, variable)
            found.append(Given(CHILD[name], host, port))
    return tuple(found)


def _address(name: str, text: str, variable: str) -> tuple[str, int]:
    try:
        if name == "pg":
            from adapters.postgres.migrate import address

            return address(text)
        if name == "redis":
            from adapters.redis.client import target

            return target(text).nodes[0]
        parts = urlsplit(f"//{text.split(',')[0]}")
        if not parts.hostname:
            raise ValueError
        return parts.hostname, parts.port or 9092
    except ValueError as exc:
        forms = {"pg": "postgresql://user@host:5432/name", "kafka": "host:9092", "redis": "redis://host:6379/0"}
        raise OperatorError(f"{variable} is not of the form {forms[name]}") from exc


async def _reach(host: str, port: int, name: str, variable: str) -> None:
    product = {"pg": "PostgreSQL", "kafka": "Kafka", "redis": "Redis"}[name]
    try:
        async with asyncio.timeout(5):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
    except (OSError, TimeoutError) as exc:
        why = "no answer in 5 s" if isinstance(exc, TimeoutError) else "connection refused or no such host"
        raise OperatorError(
            f"{variable}: no {product} answers at {host}:{port} ({why}); start it, or leave the variable out to get one"
        ) from exc


def apps(plan: Plan, where: Where) -> list[Child]:
    """Our own processes."""
    shared = {
        **{k: v for k, v in os.environ.items() if not k.startswith("MILLRACE_TEST")},
        "MILLRACE_PG__DSN": where.pg,
        "MILLRACE_KAFKA__BOOTSTRAP": where.kafka,
        "MILLRACE_REDIS__URL": where.redis,
        **({"MILLRACE_AUTH__SECRET": plan.folder.secret("jwt")} if signs_its_own(os.environ) else {}),
        "MILLRACE_HTTP__HOST": "127.0.0.1",
        "MILLRACE_WS__HOST": "127.0.0.1",
        "MILLRACE_OPS__HOST": "127.0.0.1",
        "MILLRACE_DATA_DIR": str(plan.folder.path),
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]),
    }
    return [_app(name, plan, shared) for name in plan.topology.apps]


def _app(name: str, plan: Plan, shared: Mapping[str, str]) -> Child:
    what, ops_port, public = role(name), plan.ports[f"{name}-ops"], plan.topology.public(name)
    port = plan.ports[public] if public else None
    module = ["streams", what] if what in STAGES else [MODULES.get(what, what)]
    return Child(
        name=name,
        kind="stage" if what in STAGES else "front",
        argv=[sys.executable, "-m", *([plan.wrap] if plan.wrap else []), *module],
        log=plan.folder.logs / f"{name}.log",
        ready=lambda: answers(ops_port, "/readyz"),
        env={
            **shared,
            "MILLRACE_NODE": name if plan.topology.is_cluster else f"{name}-1",
            "MILLRACE_HTTP__PORT": str(port or 0),
            "MILLRACE_WS__PORT": str(port or 0),
            "MILLRACE_OPS__PORT": str(ops_port),
        },
        stop_s=25,
        ready_s=150 if plan.topology.is_cluster else 90,
        port=port,
        ops_port=ops_port,
    )


def proxy(plan: Plan) -> HAProxy:
    """What stands before several ingests and gateways."""
    ports, topology = plan.ports, plan.topology

    def behind(names: Sequence[str]) -> list[Backend]:
        return [Backend(name, ports[name], ports[f"{name}-ops"]) for name in names]

    return HAProxy(
        plan.folder,
        ports["http"],
        ports["ws"],
        ports[f"{PROXY}-ops"],
        behind(topology.ingests),
        behind(topology.gateways),
    )
