"""A silent Redis: when it is pinged, and when it counts as gone."""

from __future__ import annotations

import asyncio

import pytest

from adapters.redis import connection as module
from adapters.redis.connection import RedisConnection, wait_s


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("_PING_AFTER_S", 0.2), ("_PING_AGAIN_S", 0.05), ("_SILENT_S", 0.325)):
        monkeypatch.setattr(module, name, seconds)


class Wire(asyncio.Transport):
    """A transport that notes what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[tuple[float, bytes]] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append((asyncio.get_running_loop().time(), bytes(data)))

    def is_closing(self) -> bool:
        return False


def opened() -> tuple[RedisConnection, Wire]:
    connection, wire = RedisConnection(lambda _: None, lambda: None), Wire()
    connection.connection_made(wire)
    return connection, wire


def test_it_is_looked_at_again_when_something_is_due_and_not_before():
    assert [round(wait_s(silent), 3) for silent in (0.0, 0.15, 0.2, 0.25, 0.3)] == [0.2, 0.05, 0.05, 0.05, 0.025]
    assert wait_s(0.325) > 0


async def test_a_silent_server_is_pinged_and_then_gone():
    connection, wire = opened()
    began = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await connection.until_lost()
    assert 0.32 <= asyncio.get_running_loop().time() - began < 1.0
    assert len(wire.written) >= 1
    assert {data for _, data in wire.written} == {b"*1\r\n$4\r\nPING\r\n"}
    assert wire.written[0][0] - began >= 0.19


async def test_a_server_that_answers_is_kept_and_woken_for_once_per_silence():
    connection, wire = opened()
    watching = asyncio.create_task(connection.until_lost())
    for pings in (1, 2):
        async with asyncio.timeout(5):
            while len(wire.written) < pings:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        connection.data_received(b"+PONG\r\n")
    assert not watching.done()
    assert wire.written[1][0] - wire.written[0][0] >= 0.19
    connection.connection_lost(None)
    with pytest.raises(ConnectionError):
        await watching
