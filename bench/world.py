"""Servers that a gateway needs: Valkey and PostgreSQL from wheels, in a folder that is removed after the run."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from adapters.auth import issue
from adapters.postgres.conversations import PostgresConversations
from adapters.postgres.intake import PostgresIntake
from adapters.postgres.migrate import ensure_database, migrate
from adapters.postgres.pool import Pool, open_pool
from bench.machine import cores
from bench.process import Process, python
from ingest.http.params import parse
from ingest.http.validation import draft
from schemas.calls import NewMessage
from schemas.ids import new_id
from stack.ports import allot
from stack.servers.data_dir import DataDir
from stack.servers.postgres import Postgres
from stack.servers.valkey import Valkey
from stack.supervisor import Supervisor

_TTL_S = 3600


@dataclass(slots=True)
class World:
    """Running servers. Tokens and passwords are not in its repr.

    ``warm_s``: seconds for which a stack works before it is measured, so that the JVM has compiled what it needs.
    """

    folder: DataDir
    valkey: Valkey
    postgres: Postgres
    supervisor: Supervisor
    pool: Pool = field(repr=False)
    warm_s: float = 60.0

    @property
    def stores(self) -> Mapping[str, int]:
        """Return the process ids of both servers, by name."""
        return {each.child.name: each.pid for each in self.supervisor.children if each.pid}

    def port(self) -> int:
        """Return a free port."""
        return allot(["one"], {}, {})["one"]

    @asynccontextmanager
    async def gateway(self, port: int) -> AsyncIterator[Process]:
        """Run a gateway, ready, on the servers' core, while the block runs."""
        env = {
            "MILLRACE_NODE": f"bench-{port}",
            "MILLRACE_WS__PORT": str(port),
            "MILLRACE_REDIS__URL": self.valkey.url,
            "MILLRACE_PG__DSN": self.postgres.dsn,
            "MILLRACE_AUTH__SECRET": self.folder.secret("jwt"),
        }
        async with python("bench.node", env=env, core=cores()[0]) as process:
            yield process

    @asynccontextmanager
    async def bare(self, port: int) -> AsyncIterator[Process]:
        """Run the websockets library alone, on the same core, while the block runs."""
        async with python("bench.bare", str(port), core=cores()[0]) as process:
            yield process

    async def room(self, count: int) -> str:
        """Create a conversation of the users u0, u1 …, which u0 owns; return its id."""
        id_ = new_id()
        users = [f"u{n}" for n in range(count)]
        await PostgresConversations(self.pool).create(id_, None, users[0], users[1:])
        return id_

    async def send(self, room: str, count: int) -> None:
        """Store so many messages."""
        body = {"conversationId": room, "type": "text", "content": "x" * 200}
        for _ in range(count):
            drafted = draft(parse(NewMessage, orjson.dumps(body)), sender_id="u0", idempotency_key=new_id())
            await PostgresIntake(self.pool).accept([drafted], wait=True)

    def clients(self, room: str, count: int) -> Mapping[str, str]:
        """Return the environment of a load client for these users, which publishes as the dispatcher does."""
        tokens = self.folder.path / "tokens"
        if not tokens.exists() or len(tokens.read_text().splitlines()) < count:
            secret = self.folder.secret("jwt")
            lines = [issue(secret, f"u{n}", ttl_s=_TTL_S) for n in range(count)]
            tokens.touch(0o600)
            tokens.write_text("".join(f"{line}\n" for line in lines))
        return {
            "WS_PATH": "/ws",
            "WS_GREETED": "1",
            "WS_TOKENS": str(tokens),
            "WS_ROOM": room,
            "WS_MARKER": '"type":"new_message"',
            "PUBLISH": "redis",
            "PUBLISH_PORT": str(self.valkey.port),
            "REDIS_PASSWORD": self.folder.secret("redis"),
        }


@contextmanager
def open_folder() -> Iterator[Path]:
    """Make a folder for one run, which any user may enter: under root PostgreSQL runs as another user."""
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as made:
        path = Path(made)
        path.chmod(0o755)
        yield path


@asynccontextmanager
async def open_world(warm_s: float = 60.0) -> AsyncIterator[World]:
    """Run the servers while the block runs."""
    with open_folder() as path:
        folder = DataDir(path)
        folder.prepare()
        ports = allot(["valkey", "postgres"], {}, {})
        valkey, postgres = Valkey(folder, ports["valkey"]), Postgres(folder, ports["postgres"])
        supervisor = Supervisor()
        try:
            await supervisor.start([await valkey.prepare(), await postgres.prepare()])
            ensure_database(postgres.dsn)
            migrate(postgres.dsn)
            async with open_pool(postgres.dsn, size=4, wait_s=30) as pool:
                yield World(folder, valkey, postgres, supervisor, pool, warm_s)
        finally:
            await supervisor.stop()
