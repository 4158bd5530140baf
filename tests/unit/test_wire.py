"""What a socket takes while its peer reads slowly, and when it is given up."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import orjson
import pytest
from websockets.protocol import State

from gateway.send_queue import ANSWERS, HIGH, LIMIT, LITTLE, LOW, STALLED_S, Outlet, Wire, encode
from schemas.frames import frame

KB = 1024


class Clogged:
    """A connection whose peer takes only what ``takes`` says."""

    def __init__(self) -> None:
        self.transport, self.protocol = self, SimpleNamespace(state=State.OPEN)
        self.buffer = b""
        self.aborted = False
        self.writes = 0
        self.ended = asyncio.Event()

    def get_write_buffer_size(self) -> int:
        return len(self.buffer)

    def write(self, data: bytes) -> None:
        self.buffer += data
        self.writes += 1

    def abort(self) -> None:
        self.aborted = True

    async def drain(self) -> None:
        while len(self.buffer) > LOW:  # noqa: ASYNC110 - a plain field, so that tests read well
            await asyncio.sleep(0)

    async def wait_closed(self) -> None:
        await self.ended.wait()

    def takes(self, count: int) -> bytes:
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken


@pytest.fixture
def clogged() -> Clogged:
    return Clogged()


@pytest.fixture
def wire(clogged) -> Wire:
    return Wire(clogged, Outlet(), lagging_s=60.0)


def fill(wire: Wire, limit: int) -> None:
    while wire.write(b"x" * KB, limit):
        pass


def status(seq: int, user: str = "bob") -> bytes:
    return frame("message_status", conversationId="c", userId=user, deliveredSeq=seq, readSeq=0)


def news(wire: Wire, payload: bytes) -> None:
    wire.news(payload, encode(payload))


async def test_the_less_a_frame_is_worth_the_earlier_it_is_dropped(wire, clogged):
    fill(wire, LITTLE)
    before = wire.waiting
    wire.spare(b"typing")
    assert wire.waiting == before
    assert wire.write(b"content")
    fill(wire, LIMIT)
    assert not wire.write(b"content")
    assert wire.write(b"an answer", ANSWERS)
    assert wire.waiting < LIMIT + 8 * KB


async def test_nothing_makes_more_wait_than_high(wire, clogged):
    fill(wire, ANSWERS)
    for n in range(4000):
        news(wire, status(n, f"user-{n}"))
    assert clogged.aborted, "too much news is the end"
    assert wire.waiting < HIGH


async def test_the_last_watermark_comes_when_there_is_room(wire, clogged):
    fill(wire, LIMIT)
    wire.flush()
    for seq in range(1, 100):
        news(wire, status(seq))
    assert wire.tend(0.0)
    clogged.takes(HIGH)
    assert wire.tend(1.0)
    wire.flush()
    sent = clogged.takes(HIGH)
    assert sent == encode(status(99))
    assert orjson.loads(status(99))["deliveredSeq"] == 99


async def test_news_never_overtakes_what_is_held(wire, clogged):
    fill(wire, LIMIT)
    wire.flush()
    news(wire, status(1))
    clogged.takes(HIGH)
    news(wire, status(2))  # there is room now, but the first one waits still
    assert wire.tend(0.0)
    wire.flush()
    assert clogged.takes(HIGH) == encode(status(2))


async def test_many_small_frames_of_one_turn_do_not_pile_up_as_objects(wire, clogged):
    for _ in range(1000):
        wire.write(b"x")
    wire.flush()
    assert (len(clogged.buffer), clogged.writes) == (1000, 5)  # the first alone, the others by 256


async def test_a_peer_that_takes_nothing_is_given_up_after_20_s(wire, clogged):
    wire.write(b"x" * KB)
    wire.flush()
    assert all(wire.tend(float(second)) for second in range(int(STALLED_S) + 1))
    assert not wire.tend(STALLED_S + 1)
    clogged.takes(1)
    assert wire.tend(STALLED_S + 2)


async def test_a_node_that_was_frozen_blames_nobody(wire, clogged):
    fill(wire, LIMIT)
    wire.flush()
    assert wire.tend(0.0)
    assert wire.tend(1000.0)
    assert wire.tend(1001.0)


async def test_a_peer_that_takes_a_byte_a_second_is_given_up_after_a_minute(wire, clogged):
    fill(wire, LIMIT)
    wire.flush()
    for second in range(61):
        assert wire.tend(float(second))
        clogged.takes(1)
    assert not wire.tend(61.0)


async def test_what_is_known_to_come_together_is_one_write(clogged):
    outlet = Outlet()
    wire = Wire(clogged, outlet)
    for joined, writes in ((True, 1), (False, 2)):
        clogged.buffer, clogged.writes = b"", 0
        if joined:
            outlet.join()
        for frame_ in (b"a", b"b", b"c"):
            assert wire.write(frame_)
        await asyncio.sleep(0)
        assert (clogged.buffer, clogged.writes) == (b"abc", writes)


async def test_a_slow_peer_that_arrives_now_and_then_is_kept(wire, clogged):
    for second in range(300):
        if second % 50 == 0:
            fill(wire, LIMIT)
            wire.flush()
        assert wire.tend(float(second))
        clogged.takes(LIMIT // 48)


async def test_room_is_there_when_the_peer_has_taken_it(wire, clogged):
    fill(wire, LIMIT)
    waiting = asyncio.create_task(wire.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    clogged.takes(LIMIT)
    async with asyncio.timeout(5):
        await waiting


async def test_room_of_a_connection_that_closes_comes_with_its_end(wire, clogged):
    """Else what lags would be read from the store into the void."""
    clogged.protocol.state = State.CLOSING
    waiting = asyncio.create_task(wire.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    clogged.ended.set()
    async with asyncio.timeout(5):
        await waiting
