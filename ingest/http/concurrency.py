"""Calls of a user that are under way at the same time, bounded so that nobody takes a node from the others."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from domain.errors import RateLimited
from schemas.operations import Operation

WAIT_S = 1.0
_RETRY_S = 1.0

Kind: TypeAlias = Literal["messages", "transfers", "calls"]


def kind_of(operation: Operation) -> Kind:
    """Return the kind that an operation counts as: slow transfers of files hold up neither messages nor other calls."""
    if operation.rate == "messages":
        return "messages"
    has_bytes = operation.raw or any(reply.content for reply in operation.replies.values())
    return "transfers" if has_bytes else "calls"


@dataclass(slots=True)
class _Running:
    """Calls of one user and kind: the number of running ones, and those that wait for their turn."""

    count: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)


@dataclass(slots=True)
class CallSlots:
    """Slots of all users of a node; a limit of 0 means none.

    So many calls of one user and kind run at a time, and as many wait, so that a page that loads everything at once is
    served; beyond that, calls are refused.
    """

    calls_per_user: int = 0
    messages_per_user: int = 0
    _running: dict[tuple[Kind, str], _Running] = field(default_factory=dict)

    async def take(self, kind: Kind, user_id: str) -> None:
        """Take a slot of the user, which ``leave`` frees. Raises RateLimited."""
        limit = self.messages_per_user if kind == "messages" else self.calls_per_user
        if not limit:
            return
        running = self._running.get((kind, user_id))
        if running is None:
            running = self._running[kind, user_id] = _Running()
        if running.count < limit:
            running.count += 1
        else:
            await _wait(running, limit, _refusal(kind, limit))

    def leave(self, kind: Kind, user_id: str) -> None:
        """Free a slot that was taken."""
        running = self._running.get((kind, user_id))
        if running is None:  # there is no limit
            return
        _release(running)
        if not running.count:
            del self._running[kind, user_id]


def _refusal(kind: Kind, limit: int) -> RateLimited:
    return RateLimited(f"more than {limit} {kind} of this user at a time; wait for an answer", _RETRY_S)


async def _wait(running: _Running, places: int, refusal: RateLimited) -> None:
    """Wait for a slot that another call leaves. Raises RateLimited when none is left in time, or too many wait."""
    if len(running.waiting) >= places:
        raise refusal
    turn = asyncio.get_running_loop().create_future()
    running.waiting.append(turn)
    try:
        await asyncio.wait({turn}, timeout=WAIT_S)
    except asyncio.CancelledError:
        if turn.done():
            _release(running)
        else:
            running.waiting.remove(turn)
        raise
    if not turn.done():
        running.waiting.remove(turn)
        raise refusal


def _release(running: _Running) -> None:
    """Hand a slot to the call that has waited longest, or free it."""
    if running.waiting:
        running.waiting.popleft().set_result(None)
    else:
        running.count -= 1
