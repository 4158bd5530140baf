"""Ends of audio files and of their frames, behind which programs write tags that a copy of the stream would keep."""

from __future__ import annotations

import re

from streams.media.strip import NoCopy

# MPEG audio: ISO/IEC 11172-3 §2.4.2.3, 13818-3 §2.4.2.3

_SYNC = re.compile(rb"\xff[\xe2-\xff]..", re.DOTALL)
_VERSION_1, _LAYER_3, _LAYER_2 = 3, 1, 2
_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
"""Sampling rates in hertz, by version: 1, 2 and 2.5."""
_KBITS = {
    (True, _LAYER_3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (True, _LAYER_2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (False, _LAYER_3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, _LAYER_2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Kilobits a second, by whether it is version 1, and by layer."""


def mpeg_audio_frame(packet: bytes) -> bytes:
    """Return the frame in a packet, without the bytes before and behind it; nothing when there is no whole frame."""
    found = b""
    for match in _SYNC.finditer(packet):
        size = _frame_size(match.group())
        if size == len(packet) - match.start():  # what precedes a frame is put into its packet
            return packet[match.start() :]
        if size and not found and match.start() + size <= len(packet):
            found = packet[match.start() : match.start() + size]
    return found


def _frame_size(header: bytes) -> int:
    """Return the bytes of the frame with this header; 0 for none that can be told."""
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
    kbits = _KBITS.get((version == _VERSION_1, layer))
    rate, step, padding = header[2] >> 2 & 3, header[2] >> 4, header[2] >> 1 & 1
    if kbits is None or version not in _RATES or rate == 3 or not 1 <= step <= len(kbits):
        return 0
    samples = 576 if layer == _LAYER_3 and version != _VERSION_1 else 1152
    return samples // 8 * kbits[step - 1] * 1000 // _RATES[version][rate] + padding


# FLAC: RFC 9639 §9.3

_POLYNOMIAL = 0x8005


def _step(crc: int) -> int:
    for _ in range(8):
        crc = (crc << 1 ^ _POLYNOMIAL if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


_STEPS = [_step(high << 8) for high in range(256)]


def flac_frame(packet: bytes) -> bytes:
    """Return the frame that a packet begins with, without the bytes behind it; nothing when it has no end.

    A frame ends with its CRC, so the CRC of all its bytes is 0. The last such place is taken: no frame is ever cut.
    """
    crc, end = 0, 0
    for at, byte in enumerate(packet, 1):
        crc = (crc << 8 & 0xFFFF) ^ _STEPS[crc >> 8 ^ byte]
        if crc == 0:
            end = at
    return packet[:end]


# WAV: Multimedia Programming Interface and Data Specifications 1.0 (RIFF)

_OPEN_ENDED = 0x7FFF0000
"""Sizes from here on, and 0, are written by programs that do not know how much sound follows."""


def check_wav(content: bytes) -> None:
    """Raise NoCopy when it is unknown where the samples end, and so whether tags follow."""
    at = 12
    while at + 8 <= len(content):
        kind, size = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        if kind == b"data":
            if not 0 < size < _OPEN_ENDED:
                raise NoCopy("the recording does not say how long it is")
            return
        at += 8 + size + size % 2
