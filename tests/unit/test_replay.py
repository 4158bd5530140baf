"""Sockets that join together get the frames of a page as encoded once; a page that was read again has its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from gateway import replay as module
from gateway.framing import encode
from gateway.hub import Hub
from gateway.replay import Replay
from gateway.room import Room, Socket, Subscription
from schemas.frames import of_change
from schemas.messages import Change
from tests import make


@dataclass
class Pipe:
    """A socket's writer that takes so many frames."""

    takes: int = 1000
    got: list[bytes] = field(default_factory=list)

    def write(self, frame: bytes) -> bool:
        if len(self.got) < self.takes:
            self.got.append(frame)
            return True
        return False

    async def drained(self) -> None:
        """Return at once."""


def page(text: str) -> list[Change]:
    data = {"userId": text, "by": "alice", "at": make.AT}
    return [Change(conversation_id=make.ROOM, seq=seq, kind="member_added", data=data) for seq in range(1, 61)]


@dataclass
class Store:
    """A history that gives the same page to everybody, until it is read again."""

    page: list[Change] = field(default_factory=lambda: page("bob"))

    async def changes(self, conversation_id: str, after: int, up_to: int, limit: int) -> Sequence[Change]:
        await asyncio.sleep(0)
        return self.page


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    seqs: list[int] = []

    def noted(change: Change) -> bytes:
        seqs.append(change.seq)
        return of_change(change)

    monkeypatch.setattr(module, "of_change", noted)
    return seqs


async def bound(room: Room) -> int:
    return room.buffer.cursor or 0


def joining(hub: Hub, n: int, pipe: Pipe) -> Subscription:
    place = hub.subscribe(Socket(f"c{n}", f"user-{n}", pipe), make.ROOM)
    if place.room.buffer.cursor is None:
        place.room.buffer.start(60, 0)
    place.place(0)
    return place


async def test_a_page_is_encoded_once_for_those_who_join_together(encoded: list[int]):
    store, hub, pipes = Store(), Hub(), [Pipe() for _ in range(20)]
    replay = Replay(store, bound)
    await asyncio.gather(*(replay.catch_up(joining(hub, n, pipe)) for n, pipe in enumerate(pipes)))
    frames = [encode(of_change(change)) for change in store.page]
    assert all(pipe.got == frames for pipe in pipes)
    assert encoded == list(range(1, 61))


async def test_a_page_that_was_read_again_is_what_the_store_says_then(encoded: list[int]):
    store, hub, pipes = Store(), Hub(), [Pipe(), Pipe()]
    replay = Replay(store, bound)
    await replay.catch_up(joining(hub, 0, pipes[0]))
    store.page = page("carol")
    await replay.catch_up(joining(hub, 1, pipes[1]))
    assert pipes[0].got != pipes[1].got
    assert pipes[1].got == [encode(of_change(change)) for change in store.page]


async def test_nothing_is_kept_for_long(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_SHARED_S", 0.01)
    store, hub = Store(), Hub()
    replay = Replay(store, bound)
    await replay.catch_up(joining(hub, 0, Pipe()))
    assert len(replay._pages) == 1
    async with asyncio.timeout(5):
        while replay._pages:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
