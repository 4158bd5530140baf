"""Frames that RFC 6455 does not allow: the right close code, the end of the connection, and nobody else notices."""

from __future__ import annotations

import asyncio
import struct

import pytest

from . import raw
from .raw import BINARY, CLOSE, PING, PONG, TEXT, frame


def close(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason)


WRONG = {
    "unmasked": (frame(TEXT, b"{}", masked=False), 1002),
    "first reserved bit": (frame(TEXT, b"{}", reserved=4), 1002),
    "last reserved bit": (frame(TEXT, b"{}", reserved=1), 1002),
    "reserved bit of a ping": (frame(PING, reserved=2), 1002),
    "unknown data opcode": (frame(0x3, b"{}"), 1002),
    "unknown control opcode": (frame(0xB), 1002),
    "text that is no UTF-8": (frame(TEXT, b'{"type":"\xff"}'), 1007),
    "UTF-8 that ends too early": (frame(TEXT, b'"\xe2\x82', fin=False) + frame(0, b'"'), 1007),
    "a surrogate": (frame(TEXT, b'"\xed\xa0\x80"'), 1007),
    "too large": (frame(TEXT, b"x" * 70_000), 1009),
    "says to be 8 EiB": (frame(TEXT, says=2**63 - 1), 1009),
    "too large in fragments": (frame(TEXT, b"x" * 40_000, fin=False) + frame(0, b"x" * 40_000), 1009),
    "fragmented ping": (frame(PING, b"x", fin=False), 1002),
    "fragmented close": (frame(CLOSE, b"", fin=False), 1002),
    "long ping": (frame(PING, b"x" * 126), 1002),
    "long pong": (frame(PONG, b"x" * 126), 1002),
    "continuation of nothing": (frame(0, b"{}"), 1002),
    "a second start": (frame(TEXT, b"{", fin=False) + frame(TEXT, b"}"), 1002),
    "close of one byte": (frame(CLOSE, b"\x03"), 1002),
    "close 999": (close(999), 1002),
    "close 1004": (close(1004), 1002),
    "close 1005": (close(1005), 1002),
    "close 1006": (close(1006), 1002),
    "close 5000": (close(5000), 1002),
    "close with a reason that is no UTF-8": (close(1000, b"\xff"), 1007),
    "TLS": (bytes.fromhex("16030100ba010000b60303") + b"\x5a" * 64, 1002),
}


@pytest.mark.parametrize("case", WRONG)
async def test_a_wrong_frame_ends_its_connection_alone(world, case):
    data, code = WRONG[case]
    async with world.client("carol") as other, raw.open_raw(world.port) as bob:
        bob.send(data)
        assert await bob.closed() == code
        await other.say(type="ping")
        assert (await other.next())["type"] == "pong"
        bob.writer.close()
        await raw.until(lambda: list(world.gateway.hub.users) == ["carol"] and world.gateway.admission.open == 1)


@pytest.mark.parametrize(
    "sent",
    [
        [frame(TEXT, b'{"type":"ping"}')],
        [frame(BINARY, b'{"type":"ping"}')],
        [frame(TEXT, b'{"type"', fin=False), frame(PING, b"between"), frame(0, b':"ping"}')],
        [frame(TEXT, b"", fin=False), frame(0, b"", fin=False), frame(0, b'{"type":"ping"}')],
        [bytes([byte]) for byte in frame(TEXT, b'{"type":"ping"}')],
        [frame(PONG, b"nobody asked"), frame(TEXT, b'{"type":"ping"}')],
    ],
)
async def test_what_is_allowed_is_understood(world, sent):
    async with raw.open_raw(world.port) as bob:
        for data in sent:
            bob.send(data)
            await asyncio.sleep(0)
        assert (await bob.next())["type"] == "pong"


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1011, 3000, 4999])
async def test_a_close_is_echoed(world, code):
    async with raw.open_raw(world.port) as bob:
        bob.send(close(code, b"bye"))
        assert await bob.closed() == code


async def test_a_close_without_a_code_is_echoed(world):
    async with raw.open_raw(world.port) as bob:
        bob.send(frame(CLOSE))
        assert await bob.frame() == (CLOSE, b"")
        assert await bob.ended() == b""


@pytest.mark.slow
async def test_a_client_that_never_ends_its_side_is_cut_after_5_s(world):
    async with raw.open_raw(world.port) as bob:
        bob.send(frame(TEXT, b"{}", masked=False))
        await raw.until(lambda: world.gateway.admission.open == 0, 8)
