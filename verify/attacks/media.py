"""Attacks on the media stage: small pictures that cost much to decode."""

from __future__ import annotations

import struct
import zlib

from verify.attacks.doors import Doors, in_parallel
from verify.attacks.http import room_of, uploaded

_SIDE = (4_800, 4_800)


def picture(width: int, height: int, colour: bytes = b"\x40\x80\xc0") -> bytes:
    """Return a PNG of one colour: a few kilobytes for millions of pixels (PNG, third edition, §5 and §11)."""
    rows = zlib.compress((b"\0" + colour * width) * height, 9)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


async def dear_pictures(doors: Doors) -> None:
    """Send pictures, each of many pixels and each different, as fast as they are taken."""
    width, height = _SIDE
    count = iter(range(1_000_000))
    async with doors.client() as client:
        room = await room_of(client)

        async def one(_: int) -> None:
            media = await uploaded(client, picture(width - next(count) % 500, height))
            body = {"conversationId": room, "type": "image", "content": "", "attachments": [media]}
            await client.post("/messages", json=body)

        await in_parallel(4, one)
