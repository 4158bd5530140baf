"""Load clients that are members of conversations: of our stack, and of a peer that has them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeAlias

from adapters.auth import issue
from adapters.postgres.conversations import PostgresConversations
from adapters.postgres.pool import Pool, connection, open_pool
from bench.process import Load, load
from schemas.ids import new_id
from stack.running import RunningStack

SENDER = "sender"
"""User who sends all messages, and has no socket."""
_SIZE = "230"
_AT_ONCE = "64"
_TTL_S = 6 * 3600

Create: TypeAlias = Callable[[str, Sequence[str]], Awaitable[object]]
"""Creates a conversation of SENDER and these users."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Rooms of a load, and the sockets in each of them."""

    sockets: int
    rooms: int = 1

    def __str__(self) -> str:
        rooms = f"{self.rooms:,} rooms of " if self.rooms > 1 else ""
        return f"{rooms}{self.sockets:,} socket{'s' * (self.sockets > 1)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Server with conversations: where it is reached, and the secret of its tokens."""

    secret: str = field(repr=False)
    folder: Path
    http_port: int
    ws_port: int
    create: Create = field(repr=False)


@asynccontextmanager
async def members(site: Site, shape: Shape, **more: str) -> AsyncIterator[Load]:
    """Yield clients that have joined rooms of their own: nobody else is in them, and gets hints of their messages."""
    tag = new_id()
    users = [f"{tag}.{n}" for n in range(shape.sockets * shape.rooms)]
    rooms = [new_id() for _ in range(shape.rooms)]
    for n, room in enumerate(rooms):  # the load client gives its sockets to the rooms in turns
        await site.create(room, users[n :: shape.rooms])
    env = {
        "WS_PATH": "/ws",
        "WS_GREETED": "1",
        "WS_TOKENS": str(_tokens(site, tag, users)),
        "WS_ROOM": ",".join(rooms),
        "WS_MARKER": '"type":"new_message"',
        "HTTP_TOKEN": issue(site.secret, SENDER, ttl_s=_TTL_S),
        **posts(site.http_port),
        **more,
    }
    async with load(**env) as clients:
        await clients.do(f"open {len(users)} {_AT_ONCE} {site.ws_port} 0")
        yield clients


@asynccontextmanager
async def listeners(port: int, shape: Shape, **more: str) -> AsyncIterator[Load]:
    """Yield clients of a peer that knows no users: everybody gets everything."""
    env = {"WS_MARKER": "new_message", "WS_ROOM": new_id(), **posts(port), **more}
    async with load(**env) as clients:
        await clients.do(f"open {shape.sockets} {_AT_ONCE} {port} -1")
        yield clients


def posts(port: int) -> dict[str, str]:
    """Return what makes a load client send by HTTP."""
    return {"PUBLISH": "http", "PUBLISH_PORT": str(port), "WS_SIZE": _SIZE}


def site_of(stack: RunningStack) -> Site:
    """Return our stack as a site: its first gateway, directly."""
    port = stack.nodes("gateway")[0].port
    assert port is not None
    return Site(
        secret=stack.jwt_secret,
        folder=stack.data,
        http_port=int(stack.http_url.rsplit(":", 1)[1]),
        ws_port=port,
        create=partial(_create, stack.pg_dsn),
    )


async def _create(dsn: str, room: str, users: Sequence[str]) -> None:
    async with open_pool(dsn, size=1, wait_s=30) as pool:
        await PostgresConversations(pool).create(room, None, SENDER, users)


async def create_at_peer(pool: Pool, room: str, users: Sequence[str]) -> None:
    """Create a conversation in the tables of the peers."""
    async with connection(pool) as conn:
        await conn.execute("INSERT INTO bench_peers.conversations (conversation_id) VALUES (%s::uuid)", (room,))
        await conn.execute(
            "INSERT INTO bench_peers.members (conversation_id, user_id) SELECT %s::uuid, unnest(%s::text[])",
            (room, [SENDER, *users]),
        )


def _tokens(site: Site, tag: str, users: Sequence[str]) -> Path:
    file = site.folder / f"bench-tokens-{tag}"
    file.touch(0o600)
    file.write_text("".join(f"{issue(site.secret, user, ttl_s=_TTL_S)}\n" for user in users))
    return file
