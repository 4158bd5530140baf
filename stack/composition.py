"""Compose a stack on one machine from its servers, given by URL or embedded, and our own processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

from domain.errors import Unavailable
from runtime.variables import FILE, value_of
from schemas.topics import stages
from stack.child import Child
from stack.errors import OperatorError
from stack.given import DIRECT, GIVEN, GivenServer, url_of
from stack.logins import dsn_for
from stack.probes import answers, http_get, replies
from stack.progress import Progress
from stack.servers.data_dir import DataDir
from stack.servers.haproxy import Backend, HAProxy
from stack.servers.kafka import Kafka, Via
from stack.servers.postgres import Postgres
from stack.servers.replica import NAME, Replica
from stack.servers.valkey import Valkey, cluster_url
from stack.tokens import signs_its_own
from stack.topology import PROXY, Topology, module_of, node_name, role

_NOT_FOR_PROCESSES = ("MILLRACE_TEST", "MILLRACE_AUTH__SECRET_FILE")

Prepare: TypeAlias = Callable[[], Awaitable[Child]]
"""Prepares the files of a server; returns how to run it."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of the three servers, in the form of their settings.

    ``pg`` is the owner's; ``logins`` are those of the processes, by kind, and none for a PostgreSQL that is given.
    ``replica`` has the same logins on the replica, where there is one.
    """

    pg: str = field(repr=False)
    kafka: str
    redis: str = field(repr=False)
    logins: Mapping[str, str] = field(repr=False)
    replica: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """The addresses of the servers, and the servers that we run ourselves.

    ``app_addresses`` are those that our own processes use, through a proxy where there is one. ``join`` makes one
    cluster of the caches that have started; ``make_logins`` makes those of an embedded PostgreSQL.
    """

    addresses: Addresses
    app_addresses: Addresses
    brokers: tuple[Prepare, ...] = ()
    database: tuple[Prepare, ...] = ()
    replica: tuple[Prepare, ...] = ()
    caches: tuple[Prepare, ...] = ()
    join: Callable[[], Awaitable[None]] | None = None
    make_logins: Callable[[], Awaitable[None]] | None = None
    given: tuple[GivenServer, ...] = ()

    @property
    def is_broker_alone(self) -> bool:
        """Return whether the broker is ours, and has no other to replicate to."""
        return len(self.brokers) == 1


@dataclass(frozen=True, slots=True)
class Plan:
    """The processes and ports of a stack, decided before anything starts.

    ``via``: see ``stack.topology.detours``. ``left_out``: processes that are not started, by name. ``synchronous``: the
    replica has what is committed.
    """

    folder: DataDir
    topology: Topology
    ports: Mapping[str, int]
    via: Mapping[str, int] = field(default_factory=dict)
    wrap: str | None = None
    left_out: tuple[str, ...] = ()
    synchronous: bool = False

    @property
    def apps(self) -> tuple[str, ...]:
        """The names of our own processes that are started."""
        return tuple(name for name in self.topology.apps if name not in self.left_out)


def servers(plan: Plan, given: tuple[GivenServer, ...], progress: Progress) -> Servers:
    """Return the servers of the stack: each one as given in the environment, else embedded."""
    ports, own = plan.ports, {"postgres", "kafka", "valkey"} - {g.name for g in given}
    url = {name: url_of(name) for name in GIVEN}
    postgres = Postgres(plan.folder, ports["postgres"], progress)
    replica = Replica(postgres, ports.get(NAME, 0), plan.via.get(NAME), plan.synchronous)
    replicas = [replica] if plan.topology.is_replicated else []
    brokers = _brokers(plan, progress)
    names = plan.topology.caches
    caches = [
        Valkey(plan.folder, ports[n], n, ports.get(f"{n}-bus"), plan.via.get(n), plan.via.get(f"bus-of-{n}"))
        for n in names
    ]
    redis = url["redis"] or cache_url(plan)
    through = Postgres(plan.folder, plan.via.get("postgres", postgres.port))
    addresses = Addresses(
        (value_of(DIRECT, os.environ) if url["pg"] else "") or url["pg"] or postgres.dsn,
        url["kafka"] or ",".join(b.bootstrap for b in brokers),
        redis,
        {} if url["pg"] else postgres.logins,
    )
    app_addresses = Addresses(
        url["pg"] or through.dsn,
        url["kafka"] or ",".join(f"127.0.0.1:{b.via.proxy_port if b.via else b.port}" for b in brokers),
        url["redis"] or cache_url(plan, plan.via),
        {} if url["pg"] else through.logins,
        replicas[0].logins if replicas and not url["pg"] else {},
    )
    join = partial(join_caches, redis, caches) if len(caches) > 1 and "valkey" in own else None
    return Servers(
        addresses=addresses,
        app_addresses=app_addresses,
        brokers=tuple(b.prepare for b in brokers if "kafka" in own),
        database=(postgres.prepare,) if "postgres" in own else (),
        replica=tuple(r.prepare for r in replicas if "postgres" in own),
        caches=tuple(partial(_prepare_cache, c, join) for c in caches if "valkey" in own),
        make_logins=postgres.make_logins if "postgres" in own else None,
        join=join,
        given=given,
    )


def _brokers(plan: Plan, progress: Progress) -> list[Kafka]:
    names, ports = plan.topology.brokers, plan.ports
    controllers = {
        number: plan.via.get(f"controller-of-{name}", ports[f"{name}-controller"])
        for number, name in enumerate(names, 1)
    }
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
            peers_port=plan.via.get(f"peers-of-{name}"),
        )
        for number, name in enumerate(names, 1)
    ]


def cache_url(plan: Plan, via: Mapping[str, int] | None = None) -> str:
    """Return the URL of the cache, or of the cluster of caches."""
    ports = [(via or {}).get(name, plan.ports[name]) for name in plan.topology.caches]
    return Valkey(plan.folder, ports[0]).url if len(ports) == 1 else cluster_url(plan.folder, ports)


async def _prepare_cache(cache: Valkey, join: Callable[[], Awaitable[None]] | None) -> Child:
    return replace(await cache.prepare(), rejoin=join)


async def join_caches(url: str, caches: Sequence[Valkey]) -> None:
    """Form one cluster of the caches. Raises OperatorError."""
    from adapters.redis.cluster_setup import Member, form

    try:
        await form(url, [Member("127.0.0.1", cache.port, cache.bus_port or 0) for cache in caches])
    except Unavailable as exc:
        raise OperatorError(f"{exc}; see the logs, or move the folders valkey-… away: they hold only hints") from exc


def apps(plan: Plan, addresses: Addresses) -> list[Child]:
    """Return our own processes that are to be started."""
    shared = {
        **{k: v for k, v in os.environ.items() if not k.startswith(_NOT_FOR_PROCESSES)},
        "MILLRACE_KAFKA__BOOTSTRAP": addresses.kafka,
        **_unless_by_file(GIVEN["redis"], addresses.redis),
        **({"MILLRACE_AUTH__SECRET": plan.folder.secret("jwt")} if signs_its_own(os.environ) else {}),
        **_signing_key(plan),
        **({} if url_of("pg") else {DIRECT: "", f"{DIRECT}{FILE}": ""}),
        "MILLRACE_HTTP__HOST": "127.0.0.1",
        "MILLRACE_WS__HOST": "127.0.0.1",
        "MILLRACE_OPS__HOST": "127.0.0.1",
        "MILLRACE_DATA_DIR": str(plan.folder.path),
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]),
    }
    pg = {name: dsn_for(name, addresses.logins, addresses.pg) for name in plan.apps}
    own = {
        name: {**_link(name, plan), **_replica(name, addresses), **_unless_by_file(GIVEN["pg"], pg[name])}
        for name in plan.apps
    }
    return [_app(name, plan, {**shared, **own[name]}) for name in plan.apps]


def _replica(name: str, addresses: Addresses) -> dict[str, str]:
    """Return the replica for a process that reads for users or audits; stages read from the primary alone."""
    dsn = addresses.replica.get(role(name))
    return {"MILLRACE_PG__REPLICA_DSN": dsn} if dsn and role(name) not in stages() else {}


def _unless_by_file(name: str, value: str) -> dict[str, str]:
    """Return a secret for the environment of a process; none when the process reads it from the file that is given."""
    return {} if os.environ.get(f"{name}{FILE}") else {name: value}


def _link(name: str, plan: Plan) -> dict[str, str]:
    """Return the URL of an embedded Redis through the proxy that this process has for itself, if there is one."""
    [first, *_] = plan.topology.caches
    port = plan.via.get(f"{role(name)}-{first}")
    return {} if port is None or url_of("redis") else {GIVEN["redis"]: Valkey(plan.folder, port).url}


def _signing_key(plan: Plan) -> dict[str, str]:
    """Return a key for URLs of files, unless the environment has one."""
    given = "MILLRACE_MEDIA__SIGNING_KEY", "MILLRACE_MEDIA__SIGNING_KEY_FILE"
    return {} if any(os.environ.get(name) for name in given) else {given[0]: plan.folder.secret("media")}


def _app(name: str, plan: Plan, shared: Mapping[str, str]) -> Child:
    ops_port, port = plan.ports[f"{name}-ops"], public_port(name, plan)
    return Child(
        name=name,
        kind="stage" if role(name) in stages() else "front",
        argv=[sys.executable, "-m", *([plan.wrap] if plan.wrap else []), *module_of(name)],
        log=plan.folder.logs / f"{name}.log",
        ready=lambda: answers(ops_port, "/readyz"),
        alive=lambda: replies(ops_port, http_get("/healthz")),
        env={
            **shared,
            "MILLRACE_NODE": node_name(name, is_cluster=plan.topology.is_cluster),
            "MILLRACE_HTTP__PORT": str(port or 0),
            "MILLRACE_WS__PORT": str(port or 0),
            "MILLRACE_OPS__PORT": str(ops_port),
        },
        stop_s=25,
        ready_s=150 if plan.topology.is_cluster else 90,
        port=port,
        ops_port=ops_port,
    )


def public_port(name: str, plan: Plan) -> int | None:
    """Return the port on which clients reach a process of ours; None for a stage."""
    public = plan.topology.public(name)
    return plan.ports[public] if public else None


def proxy(plan: Plan) -> HAProxy:
    """Return the proxy in front of several ingests and gateways."""
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
