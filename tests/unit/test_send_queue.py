"""What a socket takes while its peer reads slowly, and when it is given up."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import orjson
import pytest
from websockets.protocol import State

from gateway.channels import Envelope, Kind
from gateway.framing import encode
from gateway.send_queue import (
    CONTENT_MAX,
    EPHEMERAL_MAX,
    HARD_MAX,
    REPLY_MAX,
    RESUME_BELOW,
    STALLED_S,
    SendQueue,
    WriteBatcher,
)

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

    def is_closing(self) -> bool:
        return self.aborted

    async def drain(self) -> None:
        while len(self.buffer) > RESUME_BELOW:  # noqa: ASYNC110 - a plain field, so that tests read well
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
def queue(clogged) -> SendQueue:
    return SendQueue(clogged, WriteBatcher(), slow_client_timeout_s=60.0)


def fill(queue: SendQueue, limit: int) -> None:
    while queue.write(b"x" * KB, limit):
        pass


def status(seq: int, user: str = "bob") -> Envelope:
    frame = orjson.dumps({"type": "message_status", "userId": user, "deliveredSeq": seq, "readSeq": 0})
    return Envelope(Kind.STATUS, seq, f"c/{user}", frame)


def send_latest(queue: SendQueue, envelope: Envelope) -> None:
    queue.send_latest(envelope, encode(envelope.frame))


async def test_the_less_a_frame_is_worth_the_earlier_it_is_dropped(queue, clogged):
    fill(queue, EPHEMERAL_MAX)
    before = queue.waiting
    queue.send_ephemeral(b"typing")
    assert queue.waiting == before
    assert queue.write(b"content")
    fill(queue, CONTENT_MAX)
    assert not queue.write(b"content")
    assert queue.write(b"an answer", REPLY_MAX)
    assert queue.waiting < CONTENT_MAX + 8 * KB


async def test_nothing_makes_more_wait_than_high(queue, clogged):
    fill(queue, REPLY_MAX)
    for n in range(4000):
        send_latest(queue, status(n, f"user-{n}"))
    assert clogged.aborted, "a client for which too much is held is aborted"
    assert queue.waiting < HARD_MAX


async def test_the_last_watermark_comes_when_there_is_room(queue, clogged):
    fill(queue, CONTENT_MAX)
    queue.flush()
    for seq in range(1, 100):
        send_latest(queue, status(seq))
    assert queue.check_slow(0.0)
    clogged.takes(HARD_MAX)
    assert queue.check_slow(1.0)
    queue.flush()
    sent = clogged.takes(HARD_MAX)
    assert sent == encode(status(99).frame)
    assert orjson.loads(status(99).frame)["deliveredSeq"] == 99


async def test_the_latest_never_overtakes_what_is_held(queue, clogged):
    fill(queue, CONTENT_MAX)
    queue.flush()
    send_latest(queue, status(1))
    clogged.takes(HARD_MAX)
    send_latest(queue, status(2))  # there is room now, but the first one waits still
    assert queue.check_slow(0.0)
    queue.flush()
    assert clogged.takes(HARD_MAX) == encode(status(2).frame)


async def test_many_small_frames_of_one_turn_do_not_pile_up_as_objects(queue, clogged):
    for _ in range(1000):
        queue.write(b"x")
    queue.flush()
    assert (len(clogged.buffer), clogged.writes) == (1000, 5)  # the first alone, the others by 256


async def test_a_peer_that_takes_nothing_is_given_up_after_20_s(queue, clogged):
    queue.write(b"x" * KB)
    queue.flush()
    assert all(queue.check_slow(float(second)) for second in range(int(STALLED_S) + 1))
    assert not queue.check_slow(STALLED_S + 1)
    clogged.takes(1)
    assert queue.check_slow(STALLED_S + 2)


async def test_a_node_that_was_frozen_blames_nobody(queue, clogged):
    fill(queue, CONTENT_MAX)
    queue.flush()
    assert queue.check_slow(0.0)
    assert queue.check_slow(1000.0)
    assert queue.check_slow(1001.0)


async def test_a_peer_that_takes_a_byte_a_second_is_given_up_after_a_minute(queue, clogged):
    fill(queue, CONTENT_MAX)
    queue.flush()
    for second in range(61):
        assert queue.check_slow(float(second))
        clogged.takes(1)
    assert not queue.check_slow(61.0)


async def test_what_is_known_to_come_together_is_one_write(clogged):
    batcher = WriteBatcher()
    queue = SendQueue(clogged, batcher)
    for joined, writes in ((True, 1), (False, 2)):
        clogged.buffer, clogged.writes = b"", 0
        if joined:
            batcher.join()
        for frame_ in (b"a", b"b", b"c"):
            assert queue.write(frame_)
        await asyncio.sleep(0)
        assert (clogged.buffer, clogged.writes) == (b"abc", writes)


async def test_a_slow_peer_that_arrives_now_and_then_is_kept(queue, clogged):
    for second in range(300):
        if second % 50 == 0:
            fill(queue, CONTENT_MAX)
            queue.flush()
        assert queue.check_slow(float(second))
        clogged.takes(CONTENT_MAX // 48)


async def test_room_is_there_when_the_peer_has_taken_it(queue, clogged):
    fill(queue, CONTENT_MAX)
    waiting = asyncio.create_task(queue.drained())
    await asyncio.sleep(0)
    assert not waiting.done()
    clogged.takes(CONTENT_MAX)
    async with asyncio.timeout(5):
        await waiting


async def test_room_of_a_connection_that_closes_comes_with_its_end(queue, clogged):
    """Else what lags would be read from the store into the void."""
    clogged.protocol.state = State.CLOSING
    waiting = asyncio.create_task(queue.drained())
    await asyncio.sleep(0)
    assert not waiting.done()
    clogged.ended.set()
    async with asyncio.timeout(5):
        await waiting
