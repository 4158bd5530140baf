"""Copies of pictures without their metadata, made byte by byte: the pixels are not decoded.

A copy keeps what a viewer shows: pixels, colour profile, frames with their times and loops, orientation. It is written
from the parts that are known to be needed, so whatever else a file carries (EXIF, XMP, IPTC, comments, embedded
thumbnails, bytes behind the end of the picture) is not in it. All functions raise ValueError for bytes that do not
begin as such a picture; of a truncated one they keep what is there.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias


class NoCopy(Exception):
    """No copy without metadata can be made. The text says why."""


Strip: TypeAlias = Callable[[bytes], bytes]

_ORIENTATION = 0x0112
_SHORT = 3


def orientation(tiff: bytes) -> int:
    """Return the orientation, 1 to 8, that EXIF data (a TIFF structure) gives; 1 when there is none.

    Source: Exif 2.32 §4.6.4, TIFF 6.0 §2.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 10:
        return 1
    (at,) = struct.unpack_from(f"{order}I", tiff, 4)
    if at + 2 > len(tiff):
        return 1
    (count,) = struct.unpack_from(f"{order}H", tiff, at)
    for entry in range(at + 2, min(at + 2 + 12 * count, len(tiff) - 11), 12):
        tag, kind, _, value = struct.unpack_from(f"{order}HHIH", tiff, entry)
        if tag == _ORIENTATION:
            return int(value) if kind == _SHORT and 1 <= value <= 8 else 1
    return 1


def _exif(turned: int) -> bytes:
    """Return EXIF data with the orientation only."""
    return struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, _ORIENTATION, _SHORT, 1, turned, 0, 0)


# JPEG: ITU-T T.81 annex B, JFIF 1.02, Exif 2.32 §4.7

_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_APP0, _APP1, _APP2, _APP14 = 0xE0, 0xE1, 0xE2, 0xEE
_CODING = {*range(0xC0, 0xD0), 0xDB, 0xDC, 0xDD} - {0xC8}
"""Tables, frame headers, and restart intervals: DHT, DAC, SOF, DQT, DNL, DRI."""
_JFIF, _EXIF, _ICC, _ADOBE = b"JFIF\0", b"Exif\0", b"ICC_PROFILE\0", b"Adobe"
_ADOBE_SIZE = 12
"""Bytes of an Adobe segment that say how the colours are coded."""


def strip_jpeg(content: bytes) -> bytes:
    """Return a JPEG without metadata. Of several pictures in the file, the first is kept."""
    if content[:2] != bytes((0xFF, _SOI)):
        raise ValueError("not a JPEG")
    head, body, turned = [content[:2]], list[bytes](), 1
    for marker, payload, coded in _segments(content):
        if marker == _APP0 and payload.startswith(_JFIF) and len(payload) >= 14 and len(head) == 1:
            head.append(_segment(_APP0, payload[:12] + b"\0\0"))  # without its thumbnail
        elif marker == _APP1 and payload.startswith(_EXIF):
            turned = orientation(payload[6:]) if turned == 1 else turned
        elif marker == _SOS or marker in _CODING or _is_shown(marker, payload):
            body.append(_segment(marker, payload[:_ADOBE_SIZE] if marker == _APP14 else payload) + coded)
    if turned != 1:
        head.append(_segment(_APP1, _EXIF + b"\0" + _exif(turned)))
    return b"".join((*head, *body, bytes((0xFF, _EOI))))


def _is_shown(marker: int, payload: bytes) -> bool:
    return (marker == _APP2 and payload.startswith(_ICC)) or (marker == _APP14 and payload.startswith(_ADOBE))


def _segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def _segments(content: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield marker, payload and, behind SOS, the coded data of each segment up to EOI."""
    at = 2
    while (at := content.find(b"\xff", at)) >= 0 and at + 4 <= len(content):
        marker = content[at + 1]
        if marker == _EOI:
            return
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= _SOI:  # filling, or a marker without a payload
            at += 1 if marker == 0xFF else 2
            continue
        end = at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        behind = _coded_end(content, end) if marker == _SOS else end
        yield marker, content[at + 4 : end], content[end:behind]
        at = max(behind, at + 2)


def _coded_end(content: bytes, at: int) -> int:
    """Return where coded data ends: at the next marker that is neither a stuffed byte nor a restart."""
    while (at := content.find(b"\xff", at)) >= 0 and at + 1 < len(content):
        if content[at + 1] not in (0x00, 0xFF) and not 0xD0 <= content[at + 1] <= 0xD7:
            return at
        at += 1 if content[at + 1] == 0xFF else 2
    return len(content)


# PNG: W3C PNG (third edition)

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_SHOWN = set(b"IHDR PLTE IDAT tRNS gAMA cHRM sRGB sBIT bKGD pHYs cICP mDCV cLLI acTL fcTL fdAT".split())
_PNG_DATA = {b"IDAT", b"fdAT"}


def strip_png(content: bytes) -> bytes:
    """Return a PNG, also an animated one, without metadata."""
    if content[:8] != _PNG or content[8:16] != b"\0\0\0\rIHDR" or len(content) < 33:
        raise ValueError("not a PNG")
    chunks = [_PNG]
    for kind, payload, is_whole in _png_chunks(content):
        if kind == b"iCCP":
            _, found, profile = payload.partition(b"\0")
            if found:
                chunks.append(_png_chunk(kind, b"icc\0" + profile))
        elif kind == b"eXIf":
            turned = orientation(payload)
            if turned != 1:
                chunks.append(_png_chunk(kind, _exif(turned)))
        elif kind in _PNG_SHOWN and (is_whole or kind in _PNG_DATA):
            chunks.append(_png_chunk(kind, payload))
    return b"".join((*chunks, _png_chunk(b"IEND", b"")))


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """Yield kind, payload and whether the payload is whole for each chunk up to IEND."""
    at = 8
    while at + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, at)
        payload = content[at + 8 : at + 8 + size]
        if kind == b"IEND":
            return
        yield kind, payload, len(payload) == size
        at += 12 + size


def _png_chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


# WebP: RFC 9649

_WEBP_PICTURE = {b"VP8 ", b"VP8L", b"ALPH"}
_WEBP_SHOWN = {*_WEBP_PICTURE, b"ANIM", b"ICCP"}
_HAS_EXIF, _HAS_XMP, _FRAME_HEAD = 0x08, 0x04, 16


def strip_webp(content: bytes) -> bytes:
    """Return a WebP, also an animated one, without metadata."""
    if content[:4] != b"RIFF" or content[8:12] != b"WEBP":
        raise ValueError("not a WebP")
    end = 8 + int.from_bytes(content[4:8], "little")
    chunks = list(_riff_chunks(content[12:end]))
    turned = next((orientation(payload.removeprefix(b"Exif\0\0")) for kind, payload in chunks if kind == b"EXIF"), 1)
    kept = list[bytes]()
    for kind, payload in chunks:
        if kind == b"VP8X" and len(payload) >= 10:
            flags = payload[0] & ~_HAS_XMP & ~_HAS_EXIF | (_HAS_EXIF if turned != 1 else 0)
            kept.append(_riff_chunk(kind, bytes((flags, 0, 0, 0)) + payload[4:10]))
        elif kind == b"ANMF" and len(payload) > _FRAME_HEAD:
            parts = _riff_chunks(payload[_FRAME_HEAD:])
            frame = b"".join(_riff_chunk(part, data) for part, data in parts if part in _WEBP_PICTURE)
            kept.append(_riff_chunk(kind, payload[:_FRAME_HEAD] + frame))
        elif kind in _WEBP_SHOWN:
            kept.append(_riff_chunk(kind, payload))
    if turned != 1:
        kept.append(_riff_chunk(b"EXIF", _exif(turned)))
    body = b"WEBP" + b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _riff_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(content):
        kind, size = struct.unpack_from("<4sI", content, at)
        yield kind, content[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def _riff_chunk(kind: bytes, payload: bytes) -> bytes:
    return kind + struct.pack("<I", len(payload)) + payload + b"\0" * (len(payload) % 2)


# GIF: GIF89a specification; the loop count is the application extension of Netscape 2.0

_TRAILER, _EXTENSION, _IMAGE = 0x3B, 0x21, 0x2C
_CONTROL, _APPLICATION = 0xF9, 0xFF
_LOOPS = (b"NETSCAPE2.0", b"ANIMEXTS1.0")


@dataclass(slots=True)
class _Reader:
    """Bytes that are read from front to back; at the end there are fewer than asked for, then none."""

    content: bytes
    at: int = 0

    def take(self, size: int) -> bytes:
        part = self.content[self.at : self.at + size]
        self.at += size
        return part

    def blocks(self) -> list[bytes]:
        """Return the data sub-blocks up to the empty one that ends them, or to the end of the file."""
        found = list[bytes]()
        while (size := self.take(1)) not in (b"", b"\0") and (block := self.take(size[0])):
            found.append(block)
        return found


def strip_gif(content: bytes) -> bytes:
    """Return a GIF, also an animated one, without comments and extensions that nobody shows."""
    if content[:6] not in (b"GIF87a", b"GIF89a") or len(content) < 13:
        raise ValueError("not a GIF")
    reader = _Reader(content)
    screen = reader.take(13)
    parts = [screen, reader.take(_table_size(screen[10]))]
    if len(content) < reader.at:
        raise ValueError("not a GIF: its colours are missing")
    while (kind := reader.take(1)) not in (b"", bytes((_TRAILER,))):
        if kind[0] == _IMAGE:
            described = reader.take(9)
            head = described + reader.take(_table_size(described[8]) if len(described) == 9 else 0) + reader.take(1)
            if len(content) < reader.at:
                break
            parts.append(kind + head + _blocks(reader.blocks()))
        elif kind[0] == _EXTENSION:
            parts.append(_gif_extension(reader))
        # else: bytes between blocks, which viewers step over
    return b"".join((*parts, bytes((_TRAILER,))))


def _gif_extension(reader: _Reader) -> bytes:
    """Return the extension as it is kept; nothing for one that is not shown."""
    label, blocks = reader.take(1), reader.blocks()
    if label == bytes((_CONTROL,)) and [len(block) for block in blocks] == [4]:
        return bytes((_EXTENSION, _CONTROL)) + _blocks(blocks)
    if label == bytes((_APPLICATION,)) and blocks and blocks[0] in _LOOPS:
        counts = [block for block in blocks[1:] if len(block) == 3 and block[0] & 7 == 1]
        return bytes((_EXTENSION, _APPLICATION)) + _blocks([blocks[0], *counts[:1]])
    return b""


def _blocks(blocks: list[bytes]) -> bytes:
    return b"".join(bytes((len(block),)) + block for block in blocks) + b"\0"


def _table_size(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


STRIPS: Mapping[str, Strip] = {
    "image/jpeg": strip_jpeg,
    "image/png": strip_png,
    "image/gif": strip_gif,
    "image/webp": strip_webp,
}
"""Media type → its function."""
