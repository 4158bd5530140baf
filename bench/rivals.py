"""Peers of the backlog. PostgreSQL and Redis are their own: what our stack does at rest is in no figure of theirs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from adapters.postgres.pool import connection
from bench.clients import Shape, Site, create_at_peer, listeners, members
from bench.machine import cpu_s, family_cpu_s
from bench.peers import peer
from bench.process import HERE, Load, Process
from bench.world import World
from stack.ports import allot

_SIO = {"WS_PATH": "/socket.io/?EIO=4&transport=websocket", "WS_SIO": "1", "WS_GREETED": "1"}


@dataclass(frozen=True, slots=True)
class Rival:
    """A peer that runs. Its clients know no rooms, unless it is a ``site``."""

    name: str
    port: int
    process: Process
    stores: Mapping[str, int]
    site: Site | None = None

    def clients(self, shape: Shape) -> AbstractAsyncContextManager[Load]:
        """Open clients of this shape."""
        if self.site is not None:
            return members(self.site, shape)
        return listeners(self.port, shape, **(_SIO if self.name == "socketio" else {}))

    def read(self) -> dict[str, float]:
        """Return the CPU seconds so far of its process, and of the stores."""
        return {self.name: cpu_s([self.process.pid])} | {name: family_cpu_s(pid) for name, pid in self.stores.items()}


@asynccontextmanager
async def rivals(world: World) -> AsyncIterator[dict[str, Rival]]:
    """Run the peers while the block runs. Raises BenchError."""
    async with connection(world.pool) as conn:
        await conn.execute((HERE / "peers" / "schema.sql").read_bytes(), prepare=False)  # many statements
    ports = allot(["uws", "socketio", "fair"], {}, {})
    secret = world.folder.secret("jwt")
    env = {"PGDSN": world.postgres.dsn, "REDIS_URL": world.valkey.url, "JWT_SECRET": secret}
    async with AsyncExitStack() as stack:
        found = {}
        for name, port in ports.items():
            site = Site(
                secret=secret,
                folder=world.folder.path,
                http_port=port,
                ws_port=port,
                create=partial(create_at_peer, world.pool),
            )
            process = await stack.enter_async_context(peer(name, port, env))
            found[name] = Rival(name, port, process, world.stores, site if name == "fair" else None)
        yield found
