"""What makes up a stack on one machine: the servers, given by URL or embedded, and our own processes."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ops.errors import OperatorError
from runtime.stack.child import Child, answers
from runtime.stack.folder import Folder
from runtime.stack.kafka import Kafka
from runtime.stack.postgres import Postgres
from runtime.stack.valkey import Valkey

STAGES = ("status", "notification", "media", "search", "analytics")
APPS = ("ingest", "gateway", *STAGES, "audit")
GIVEN = {"pg": "MILLRACE_PG__DSN", "kafka": "MILLRACE_KAFKA__BOOTSTRAP", "redis": "MILLRACE_REDIS__URL"}
CHILD = {"pg": "postgres", "kafka": "kafka", "redis": "valkey"}
PORTS = ("http", "ws", "postgres", "valkey", "kafka", "kafka-controller", *(f"{app}-ops" for app in APPS))


@dataclass(frozen=True, slots=True)
class Given:
    """A server that somebody else runs."""

    name: str
    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """Where the three servers are; ``embedded`` are those that we run ourselves, to be prepared when awaited."""

    pg: str = field(repr=False)
    kafka: str
    redis: str = field(repr=False)
    embedded: Mapping[str, Callable[[], Awaitable[Child]]]
    given: tuple[Given, ...] = ()

    @property
    def is_broker_alone(self) -> bool:
        """Whether the broker is ours, and so has no other to replicate to."""
        return "kafka" in self.embedded


def servers(folder: Folder, ports: Mapping[str, int], given: tuple[Given, ...], say: Callable[[str], None]) -> Servers:
    """The servers of the stack: each one as given in the environment, else embedded."""
    postgres = Postgres(folder, ports["postgres"])
    valkey = Valkey(folder, ports["valkey"])
    kafka = Kafka(folder, ports["kafka"], ports["kafka-controller"], say)
    url = {name: os.environ.get(variable, "") for name, variable in GIVEN.items()}
    embedded = {"postgres": postgres.prepare, "kafka": kafka.prepare, "valkey": valkey.prepare}
    return Servers(
        pg=url["pg"] or postgres.dsn,
        kafka=url["kafka"] or kafka.bootstrap,
        redis=url["redis"] or valkey.url,
        embedded={name: make for name, make in embedded.items() if name not in {g.name for g in given}},
        given=given,
    )


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
    defaults = {"pg": 5432, "kafka": 9092, "redis": 6379}
    try:
        if name == "pg":
            from runtime.store.migrate import address

            return address(text)
        parts = urlsplit(text if name == "redis" else f"//{text.split(',')[0]}")
        if not parts.hostname:
            raise ValueError
        return parts.hostname, parts.port or defaults[name]
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


def apps(folder: Folder, ports: Mapping[str, int], where: Servers) -> list[Child]:
    """Our own processes."""
    shared = {
        **{k: v for k, v in os.environ.items() if not k.startswith("MILLRACE_TEST")},
        "MILLRACE_PG__DSN": where.pg,
        "MILLRACE_KAFKA__BOOTSTRAP": where.kafka,
        "MILLRACE_REDIS__URL": where.redis,
        "MILLRACE_AUTH__SECRET": folder.secret("jwt"),
        "MILLRACE_HTTP__HOST": "127.0.0.1",
        "MILLRACE_HTTP__PORT": str(ports["http"]),
        "MILLRACE_WS__HOST": "127.0.0.1",
        "MILLRACE_WS__PORT": str(ports["ws"]),
        "MILLRACE_OPS__HOST": "127.0.0.1",
        "MILLRACE_DATA_DIR": str(folder.path),
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]),
    }
    return [_app(name, folder, ports[f"{name}-ops"], shared) for name in APPS]


def _app(name: str, folder: Folder, port: int, shared: Mapping[str, str]) -> Child:
    module = ["streams", name] if name in STAGES else ["ops.audit"] if name == "audit" else [name]
    return Child(
        name=name,
        kind="stage" if name in STAGES else "front",
        argv=[sys.executable, "-m", *module],
        log=folder.logs / f"{name}.log",
        ready=lambda: answers(port, "/readyz"),
        env={**shared, "MILLRACE_NODE": f"{name}-1", "MILLRACE_OPS__PORT": str(port)},
        stop_s=25,
        ready_s=90,
        ops_port=port,
    )
