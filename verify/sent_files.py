"""Files that users of a run upload: small pictures with metadata, and texts. Pure."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Iterator
from hashlib import sha256

from verify.observations import SentFile

_PNG = b"\x89PNG\r\n\x1a\n"
_SHOWN = (b"IHDR", b"IDAT")
_SIDES = (24, 64)
_LINES = (20, 200)


def picture(chance: random.Random, name: str) -> SentFile:
    """Return a PNG of random pixels. Its metadata holds a secret, as a camera's holds a place."""
    width, height = (chance.randint(*_SIDES) for _ in range(2))
    secret = f"taken at {chance.random()}".encode()
    rows = b"".join(b"\0" + chance.randbytes(3 * width) for _ in range(height))
    content = b"".join(
        (
            _PNG,
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
            _chunk(b"tEXt", b"Comment\0" + secret),
            _chunk(b"IDAT", zlib.compress(rows)),
            _chunk(b"IEND", b""),
        )
    )
    return SentFile(f"{name}.png", "image/png", content, sha256(content).digest(), shown_by(content), secret)


def text(chance: random.Random, name: str) -> SentFile:
    """Return a text of some kilobytes."""
    lines = (f"{name} line {n} {chance.random()}" for n in range(chance.randint(*_LINES)))
    content = "\n".join(lines).encode()
    return SentFile(f"{name}.txt", "text/plain", content, sha256(content).digest())


def shown_by(content: bytes) -> bytes | None:
    """Return the digest of what a PNG shows, whatever its metadata; None for anything else."""
    chunks = dict.fromkeys(_SHOWN, b"")
    for kind, payload in _chunks(content):
        if kind in chunks:
            chunks[kind] += payload
    if not all(chunks.values()):
        return None
    try:
        pixels = zlib.decompress(chunks[b"IDAT"])
    except zlib.error:
        return None
    return sha256(chunks[b"IHDR"] + pixels).digest()


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(_PNG) if content.startswith(_PNG) else len(content)
    while at + 8 <= len(content):
        size = int.from_bytes(content[at : at + 4])
        yield content[at + 4 : at + 8], content[at + 8 : at + 8 + size]
        at += 12 + size


def _chunk(kind: bytes, payload: bytes) -> bytes:
    return len(payload).to_bytes(4) + kind + payload + zlib.crc32(kind + payload).to_bytes(4)
