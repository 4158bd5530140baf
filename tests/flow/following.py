"""A live connection of the client library, followed by a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from millrace_client import (
    Frame,
    Listener,
    LiveConnection,
    Subscription,
)
from millrace_client.backoff import Backoff
from millrace_client.reconnect import ReconnectTimer

from adapters.auth import issue
from schemas import frames
from tests import make

from .conftest import SECRET, World


@dataclass
class Shown(Listener):
    """What a user is shown."""

    start: int | None = None
    seqs: list[int] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    disconnects: list[str] = field(default_factory=list)

    def on_start(self, seq: int) -> None:
        self.start = seq

    def on_content(self, seq: int, raw: bytes) -> None:
        self.seqs.append(seq)

    def on_reset(self, seq: int) -> None:
        self.seqs = [shown for shown in self.seqs if shown <= seq]

    def on_frame(self, frame: Frame, raw: bytes) -> None:
        self.frames.append(frame)

    def on_ended(self, code: str, detail: str) -> None:
        self.ended.append(code)

    def on_disconnected(self, reason: str) -> None:
        self.disconnects.append(reason)

    def count(self, kind: type) -> int:
        return sum(isinstance(frame, kind) for frame in self.frames)


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def quick() -> ReconnectTimer:
    """Reconnects without much of a wait."""
    return ReconnectTimer(Backoff(first_s=0.01, max_s=0.05))


def message(seq: int) -> frames.NewMessage:
    return frames.NewMessage(conversation_id=make.ROOM, seq=seq, message=make.message(seq=seq))


def url(world: World) -> str:
    return f"ws://127.0.0.1:{world.port}/ws"


def token(user: str = "bob", ttl: int = 60) -> str:
    return issue(SECRET, user, ttl_s=ttl)


@asynccontextmanager
async def running(live: LiveConnection) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(live.run())
    try:
        yield task
    finally:
        await live.close()
        with suppress(Exception):  # what a test expects it has looked at
            await task


@asynccontextmanager
async def following(
    world: World, after: int | None = 0, user: str = "bob"
) -> AsyncIterator[tuple[LiveConnection, Subscription, Shown]]:
    shown = Shown()
    live = LiveConnection(url(world), token(user), shown, timer=quick())
    subscription = live.subscribe(make.ROOM, shown, after=after)
    async with running(live), asyncio.timeout(20):
        await subscription.ready.wait()
        yield live, subscription, shown
