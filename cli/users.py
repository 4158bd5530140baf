"""``millrace users``: revoke tokens."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from cli.actions import recorded
from cli.command import AsJson, Data, explain, find_target, print_result, run
from cli.target import Server, Target
from domain.errors import Unavailable
from stack.errors import OperatorError

if TYPE_CHECKING:
    from adapters.postgres.revocations import PostgresRevocations

app = typer.Typer(help="Revoke tokens of users.", no_args_is_help=True)

_POOL_S = 10.0
_QUIET_S = 1.0
"""Nodes that were reached are done when none has closed a connection for so long."""


@dataclass(frozen=True, slots=True)
class Revoked:
    """The outcome of a revocation. ``at``: Unix seconds; ``announced``: Redis took the hint for the nodes."""

    user_id: str
    jti: str | None
    at: float
    closed: int
    announced: bool


@app.callback()
def group() -> None:
    """Keep the group while it has a single command: typer would let the command take its place."""


@app.command()
def revoke(
    user: Annotated[str, typer.Argument(metavar="USER", help="The user whose tokens are revoked.")],
    token: Annotated[str | None, typer.Option(help="Revoke only the token with this jti claim.", metavar="JTI")] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Revoke all tokens issued to a user until now, or one; this also closes live connections, on every node."""
    from domain.identity import MAX_JTI
    from schemas.fields import PATTERN_TEXTS
    from schemas.ids import USER_ID, USER_ID_PATTERN

    if not USER_ID.match(user):
        raise OperatorError(f"the user id must be {PATTERN_TEXTS[USER_ID_PATTERN]}")
    if token is not None and (not 0 < len(token) <= MAX_JTI or not token.isprintable() or _is_jwt(token)):
        raise OperatorError("--token must be the jti claim of a token, not the token itself")
    target = find_target(data, Server.POSTGRES, Server.REDIS)
    done = run(_revoke(target, user, token))
    print_result(_as_json(done), _as_text(done), as_json=as_json)


def _is_jwt(text: str) -> bool:
    return text.startswith("eyJ") and text.count(".") == 2


async def _revoke(target: Target, user: str, jti: str | None) -> Revoked:
    try:
        return await end_tokens(target.pg_dsn, target.redis_url, user, jti)
    except Unavailable as exc:
        raise OperatorError(f"the revocation may not be stored: {explain(exc)}; then repeat it") from exc


async def end_tokens(dsn: str, redis_url: str, user: str, jti: str | None) -> Revoked:
    """Store the revocation, announce it, and wait until the nodes have closed connections. Raises Unavailable."""
    from adapters.postgres.pool import open_pool
    from adapters.postgres.revocations import PostgresRevocations
    from adapters.redis.publisher import open_fanout
    from domain.revocations import CHANNEL

    async with (
        recorded(dsn, "users revoke", {"userId": user, "jti": jti}) as result,
        open_pool(dsn, size=1, wait_s=_POOL_S) as pool,
        open_fanout(redis_url) as fanout,
    ):
        store = PostgresRevocations(pool)
        made = await store.revoke(user, jti)
        result["revocation"] = made.number
        try:
            await fanout.publish([(CHANNEL, b"")])
            announced = True
        except Unavailable:
            announced = False
        return Revoked(user, jti, made.at, await _closed(store, made.number, announced), announced)


async def _closed(store: PostgresRevocations, number: int, announced: bool) -> int:
    found, changed_at = await store.closed(number), time.monotonic()
    while announced and time.monotonic() - changed_at < _QUIET_S:
        await asyncio.sleep(0.05)
        now = await store.closed(number)
        if now != found:
            found, changed_at = now, time.monotonic()
    return found


def _as_json(done: Revoked) -> dict[str, object]:
    from schemas.clock import wire_seconds

    at = wire_seconds(done.at)
    return {"userId": done.user_id, "jti": done.jti, "at": at, "closed": done.closed, "told": done.announced}


def _as_text(done: Revoked) -> str:
    from schemas.clock import wire_seconds

    tokens = "all tokens issued until now" if done.jti is None else f"the token {done.jti}"
    first = f"revoked for {done.user_id}: {tokens} ({wire_seconds(done.at)})"
    if done.announced:
        return f"{first}\nlive connections closed: {done.closed}; a node that Redis does not reach follows within 30 s"
    return f"{first}\nRedis does not answer: every gateway and ingest finds the revocation in PostgreSQL within 30 s"
