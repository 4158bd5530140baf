"""``millrace users``: ending what users were given."""

from __future__ import annotations

import asyncio
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stack.errors import OperatorError
from stack.running import running_stack

if TYPE_CHECKING:
    from adapters.postgres.revocations import PostgresRevocations

app = typer.Typer(help="Users: end their tokens.", no_args_is_help=True)

_POOL_S = 10.0
_QUIET_S = 1.0
"""When no node has closed anything for so long, all that heard of it have."""


@dataclass(frozen=True, slots=True)
class Revoked:
    """What came of it. ``at``: Unix seconds; ``told``: whether Redis took the word."""

    user_id: str
    jti: str | None
    at: float
    closed: int
    told: bool


@app.callback()
def users() -> None:
    """Without this, a single command would take the place of the group."""


@app.command()
def revoke(
    user: Annotated[str, typer.Argument(help="Whose tokens.")],
    token: Annotated[str | None, typer.Option(help="Only the token with this jti claim.", metavar="JTI")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="The data folder of the stack that runs.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """End all tokens that a user was issued until now, or one: at both doors and on live sockets, on every node."""
    from domain.errors import Unavailable
    from domain.identity import MAX_JTI
    from schemas.ids import USER_ID

    if not USER_ID.match(user):
        raise OperatorError("a user id is 1-64 of A-Z a-z 0-9 _ . : -")
    if token is not None and not (0 < len(token) <= MAX_JTI and token.isprintable() and "." not in token):
        raise OperatorError("--token takes the jti claim of a token, not the token itself")
    try:
        done = asyncio.run(end_tokens(*_servers(data), user, token))
    except Unavailable as exc:
        raise OperatorError(f"nothing is known to be revoked: {exc}") from exc
    print(json.dumps(_as_json(done))) if as_json else _show(done)


def _servers(data: Path | None) -> tuple[str, str]:
    """PostgreSQL and Redis of the stack that runs, else those that the environment names."""
    try:
        stack = running_stack(data)
        return stack.pg_dsn, stack.redis_url
    except OperatorError:
        if "MILLRACE_PG__DSN" not in os.environ:
            raise
    from runtime.settings import Settings

    settings = Settings()
    return settings.pg.dsn.get_secret_value(), settings.redis.url.get_secret_value()


async def end_tokens(dsn: str, redis_url: str, user: str, jti: str | None) -> Revoked:
    """Revoke, tell the nodes, and wait until those that heard of it have closed what they had. Raises Unavailable."""
    from adapters.postgres.pool import open_pool
    from adapters.postgres.revocations import PostgresRevocations
    from adapters.redis.publisher import open_fanout
    from domain.errors import Unavailable
    from domain.revocations import CHANNEL

    async with open_pool(dsn, size=1, wait_s=_POOL_S) as pool, open_fanout(redis_url) as fanout:
        store = PostgresRevocations(pool)
        made = await store.revoke(user, jti)
        try:
            await fanout.publish([(CHANNEL, b"")])
            told = True
        except Unavailable:
            told = False
        return Revoked(user, jti, made.at, await _closed(store, made.number, told), told)


async def _closed(store: PostgresRevocations, number: int, told: bool) -> int:
    found, changed_at = await store.closed(number), time.monotonic()
    while told and time.monotonic() - changed_at < _QUIET_S:
        await asyncio.sleep(0.05)
        now = await store.closed(number)
        if now != found:
            found, changed_at = now, time.monotonic()
    return found


def _as_json(done: Revoked) -> dict[str, object]:
    from schemas.clock import wire_seconds

    at = wire_seconds(done.at)
    return {"userId": done.user_id, "jti": done.jti, "at": at, "closed": done.closed, "told": done.told}


def _show(done: Revoked) -> None:
    from schemas.clock import wire_seconds

    what = "all tokens issued until now" if done.jti is None else f"the token {done.jti}"
    print(f"revoked for {done.user_id}: {what} ({wire_seconds(done.at)})")
    if done.told:
        print(f"live connections closed: {done.closed}; a node that Redis does not reach finds it within 30 s")
    else:
        print("Redis is away: every gateway and ingest finds it in PostgreSQL within 30 s")
