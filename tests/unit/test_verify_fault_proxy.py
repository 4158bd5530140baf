"""The fault proxy, on loopback: each fault does what it says, and ends when it is healed."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from verify.fault_proxy import Counts, FaultProxy, Trap, TrapAction, open_proxy

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    """A server that says back what it hears, as long as it hears something."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
            writer.close()
        except OSError:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


@pytest.fixture
async def proxy(echo: int) -> AsyncIterator[FaultProxy]:
    async with open_proxy(echo) as opened:
        yield opened


@asynccontextmanager
async def connected(proxy: FaultProxy) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def say(streams: Streams, data: bytes) -> bytes:
    reader, writer = streams
    writer.write(data)
    return await asyncio.wait_for(reader.readexactly(len(data)), 2)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_it_forwards_both_ways_and_passes_the_end_on(proxy: FaultProxy):
    async with connected(proxy) as (reader, writer):
        data = bytes(range(256)) * 4096
        assert await say((reader, writer), data) == data
        writer.write(b"last")
        writer.write_eof()
        assert await reader.read() == b"last"
    assert proxy.port < 32_768


async def test_a_hole_delays_and_hides_the_end(proxy: FaultProxy):
    async with connected(proxy) as (reader, writer):
        assert await say((reader, writer), b"a") == b"a"
        proxy.black_hole()
        writer.write(b"bc")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.1)
        writer.write_eof()
        assert proxy.connections == 1
        await proxy.heal()
        assert await asyncio.wait_for(reader.read(), 2) == b"bc"


async def test_a_hole_in_one_direction_lets_the_other_pass(proxy: FaultProxy):
    async with connected(proxy) as streams:
        proxy.down.black_hole = True
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(say(streams, b"a"), 0.1)
        await proxy.heal()
        assert await asyncio.wait_for(streams[0].readexactly(1), 2) == b"a"


async def test_latency_is_of_each_direction_and_does_not_add_up(proxy: FaultProxy):
    proxy.slow(0.05, 0.01)
    async with connected(proxy) as streams:
        began = time.monotonic()
        assert await say(streams, b"a") == b"a"
        assert 0.08 <= time.monotonic() - began < 0.4
        began = time.monotonic()
        for n in range(10):
            streams[1].write(bytes([n]))
            await asyncio.sleep(0.002)
        assert await streams[0].readexactly(10) == bytes(range(10))
        assert time.monotonic() - began < 0.5


async def test_bandwidth_bounds_the_rate(proxy: FaultProxy):
    proxy.up.bandwidth = 100_000
    async with connected(proxy) as streams:
        began = time.monotonic()
        await say(streams, bytes(30_000))
        assert time.monotonic() - began > 0.25


async def test_slices_are_single_bytes(echo: int, proxy: FaultProxy):
    proxy.down.slices = True
    async with connected(proxy) as streams:
        data = bytes(range(256)) * 8
        assert await say(streams, data) == data


async def test_reset_ends_what_lives_and_nothing_else(proxy: FaultProxy):
    async with connected(proxy) as streams, connected(proxy) as others:
        for each in (streams, others):
            await say(each, b"a")
        proxy.reset()
        for reader, _ in (streams, others):
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.read(), 2)
    async with connected(proxy) as streams:
        assert await say(streams, b"b") == b"b"


async def test_refusing_new_connections_keeps_the_old(proxy: FaultProxy):
    async with connected(proxy) as streams:
        await say(streams, b"a")
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await say(streams, b"b") == b"b"
        await proxy.heal()
        async with connected(proxy) as more:
            assert await say(more, b"c") == b"c"


async def test_without_an_upstream_it_resets_until_there_is_one(echo: int):
    async with open_proxy() as proxy:
        async with connected(proxy) as (reader, _):
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.read(), 2)
        proxy.upstream = echo
        async with connected(proxy) as streams:
            assert await say(streams, b"a") == b"a"


async def test_a_trap_cuts_before_a_pattern_even_in_two_parts(proxy: FaultProxy):
    trap = proxy.up.trap = Trap(pattern=b"COMMIT")
    async with connected(proxy) as streams:
        assert await say(streams, b"xxCOM") == b"xxCOM"
        streams[1].write(b"MITyy")
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(streams[0].read(), 2)
        assert trap.sprung.is_set()
    async with connected(proxy) as streams:  # once
        assert await say(streams, b"COMMIT") == b"COMMIT"


async def test_a_trap_may_spring_again_until_it_is_healed(proxy: FaultProxy):
    proxy.up.trap = Trap(pattern=b"COMMIT", again=True)
    for _ in range(3):
        async with connected(proxy) as streams:
            streams[1].write(b"COMMIT")
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(streams[0].read(), 2)
    assert proxy.counts.sprung == 3
    await proxy.heal()
    async with connected(proxy) as streams:
        assert await say(streams, b"COMMIT") == b"COMMIT"


async def test_a_trap_does_not_see_what_passed_before_it_was_set(proxy: FaultProxy):
    async with connected(proxy) as streams:
        assert await say(streams, b"a mark") == b"a mark"
        proxy.up.trap = Trap(pattern=b"mark")
        assert await say(streams, b"more") == b"more"


async def test_a_trap_cuts_after_a_number_of_bytes(proxy: FaultProxy):
    proxy.down.trap = Trap(after=5)
    async with connected(proxy) as streams:
        assert await say(streams, b"123") == b"123"
        streams[1].write(b"4567")
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(streams[0].readexactly(4), 2)


async def test_a_trap_may_hold_what_it_caught(proxy: FaultProxy):
    trap = proxy.up.trap = Trap(TrapAction.HOLD, pattern=b"mark")
    async with connected(proxy) as streams:
        streams[1].write(b"a mark")
        await asyncio.wait_for(trap.sprung.wait(), 2)
        assert await streams[0].readexactly(2) == b"a "
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(streams[0].read(1), 0.1)
        await proxy.heal()
        assert await asyncio.wait_for(streams[0].readexactly(4), 2) == b"mark"


async def test_nothing_of_it_is_left(echo: int):
    async with open_proxy(echo) as proxy, connected(proxy) as streams:
        await say(streams, b"a")
    await asyncio.sleep(0)
    assert proxy.connections == 0
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", proxy.port)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_flow_whose_client_is_gone_is_reset(run: Callable[[Coroutine[Any, Any, None]], None]):
    """uvloop raises RuntimeError for a write to a connection that has died."""

    async def scene() -> None:
        unhandled: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
        reset = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(bytes(200_000))
            try:
                await reader.read()
            except ConnectionResetError:
                reset.set()
            writer.transport.abort()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with open_proxy(server.sockets[0].getsockname()[1]) as proxy:
            proxy.black_hole()
            _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            await until(lambda: proxy.counts.held > 0)
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            await until(lambda: any(w.transport.is_closing() for pair in proxy._open.values() for w in pair))
            proxy.down.heal()
            await asyncio.wait_for(reset.wait(), 5)
            await until(lambda: proxy.connections == 0)
        server.close()
        assert unhandled == []

    run(scene())


async def test_it_counts_what_met_each_fault(proxy: FaultProxy):
    async with connected(proxy) as streams:
        await say(streams, b"a")
        assert proxy.counts == Counts()
        proxy.up.black_hole = True
        streams[1].write(b"bcd")
        await until(lambda: proxy.counts.held == 3)
        await proxy.heal()
        await streams[0].readexactly(3)
        proxy.slow(0.01)
        await say(streams, b"ef")
        await proxy.heal()
        proxy.up.slices = True
        await say(streams, b"ghij")
        proxy.up.trap = Trap(pattern=b"k")
        streams[1].write(b"k")
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(streams[0].read(), 2)
    async with connected(proxy) as streams:
        await say(streams, b"l")
        proxy.reset()
    assert proxy.counts == Counts(reset=1, held=3, slowed=4, sliced=5, sprung=1)
