"""Two ways to write to a socket, and how a node finds out which of them works."""

from __future__ import annotations

import pytest
import uvloop
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from gateway.frame_writer import Writer, probe_writer, write_each, write_joined
from gateway.framing import encode, payload_of
from gateway.send_queue import SendQueue, WriteBatcher

PAYLOADS = [b"{}", b"x" * 125, b"x" * 126, "ä".encode() * 40_000]


@pytest.mark.parametrize("payload", PAYLOADS, ids=len)
def test_a_frame_gives_back_its_payload(payload: bytes):
    assert payload_of(encode(payload)) == payload


@pytest.mark.parametrize("writer", [write_joined, write_each])
async def test_frames_arrive_whole_in_order_and_around_a_ping(writer: Writer):
    assert await received(writer) == [payload.decode() for payload in [*PAYLOADS, *PAYLOADS]]


async def received(writer: Writer) -> list[str]:
    async def speak(peer: ServerConnection) -> None:
        queue = SendQueue(peer, WriteBatcher(writer))
        for payload in PAYLOADS:
            assert queue.write(encode(payload))
        pong = await peer.ping()
        for payload in PAYLOADS:
            assert queue.write(encode(payload))
        await pong

    async with serve(speak, "127.0.0.1", 0, compression=None) as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}", compression=None) as peer:
            return [str(said) async for said in peer]


@pytest.mark.parametrize("writer", [write_joined, write_each])
async def test_nothing_is_written_to_a_socket_that_is_closed(writer: Writer):
    async def speak(peer: ServerConnection) -> None:
        await peer.close()
        assert not writer(peer, [encode(b"late")])

    async with serve(speak, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}") as peer:
            assert [said async for said in peer] == []


def without_header(peer: ServerConnection, frames: list[bytes]) -> bool:
    peer.transport.write(b"".join(map(payload_of, frames)))
    return True


def the_first_only(peer: ServerConnection, frames: list[bytes]) -> bool:
    peer.transport.write(frames[0])
    return True


def no_such_part(peer: ServerConnection, _: list[bytes]) -> bool:
    return bool(peer.the_part_that_went_away)  # type: ignore[attr-defined]


@pytest.mark.parametrize("changed", [without_header, the_first_only, no_such_part])
async def test_where_websockets_has_changed_its_public_way_is_taken(changed: Writer):
    assert await probe_writer(changed) is write_each


def test_with_the_installed_websockets_joined_frames_arrive_under_uvloop_too():
    assert uvloop.run(probe_writer()) is write_joined
