"""Positions inside the coded data of a recording and in odd places, where no list of tags shows them."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable
from fractions import Fraction

import av
import pytest
from PIL import Image

from streams.media.kinds import kind_of
from streams.media.probe import probe

SECRET = b"+48.8583+002"
PICTURE = Image.linear_gradient("L").resize((96, 64)).convert("RGB")


def film(container: str, codec: str) -> bytes:
    """Return half a second of picture."""
    out = io.BytesIO()
    with av.open(out, "w", format=container) as made:
        stream = made.add_stream(codec, rate=10, width=96, height=64, pix_fmt="yuv420p")
        for number in range(5):
            frame = av.VideoFrame.from_image(PICTURE)
            frame.pts = number
            made.mux(stream.encode(frame))
        made.mux(stream.encode(None))
    return out.getvalue()


def sound(container: str, codec: str) -> bytes:
    """Return half a second of silence."""
    out = io.BytesIO()
    with av.open(out, "w", format=container) as made:
        stream = made.add_stream(codec, rate=48_000)
        stream.codec_context.layout = "mono"
        frame = av.AudioFrame(format="s16", layout="mono", samples=24_000)
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        frame.sample_rate, frame.pts = 48_000, 0
        for each in av.AudioResampler(stream.codec_context.format.name, "mono", 48_000, 960).resample(frame):
            made.mux(stream.encode(each))
        made.mux(stream.encode(None))
    return out.getvalue()


def planted(content: bytes, mark: bytes) -> bytes:
    """Return the content with the position in place of each mark."""
    assert re.search(mark, content), "the encoder writes no user data here"
    return re.sub(mark, lambda _: SECRET, content)


def motion_jpeg() -> bytes:
    frame, out = io.BytesIO(), io.BytesIO()
    PICTURE.save(frame, "JPEG", comment=SECRET)
    with av.open(out, "w", format="avi") as made:
        stream = made.add_stream("mjpeg", rate=10, width=96, height=64, pix_fmt="yuvj420p")
        for number in range(3):
            packet = av.Packet(frame.getvalue())
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 10)
            packet.is_keyframe = True
            made.mux(packet)
    return out.getvalue()


def wav() -> bytes:
    content, padded = sound("wav", "pcm_s16le"), SECRET.ljust(1024, b"\0")
    body = content[8:] + b"".join(kind + struct.pack("<I", 1024) + padded for kind in (b"bext", b"id3 ", b"iXML"))
    return content[:4] + struct.pack("<I", len(body)) + body


def mp3() -> bytes:
    ends = struct.pack("<8sIIII8x", b"APETAGEX", 2000, 32 + 14 + len(SECRET), 1, 0)
    item = struct.pack("<II", len(SECRET), 0) + b"Place\0" + SECRET
    return sound("mp3", "libmp3lame") + ends + item + ends + b"TAG" + SECRET.ljust(125, b"\0")


MADE: dict[str, Callable[[], bytes]] = {
    "H.264": lambda: planted(film("mp4", "libx264"), rb"x264 - core "),
    "H.265": lambda: planted(film("mp4", "libx265"), rb"x265 \(build "),
    "H.264 in a transport stream": lambda: planted(film("mpegts", "libx264"), rb"x264 - core "),
    "MPEG-4 part 2": lambda: planted(film("mp4", "mpeg4"), rb"(?<=\x00\x00\x01\xb2)Lavc[0-9.]{8}"),
    "MPEG-4 part 2 in AVI": lambda: planted(film("avi", "mpeg4"), rb"(?<=\x00\x00\x01\xb2)Lavc[0-9.]{8}"),
    "motion JPEG": motion_jpeg,
    "WAV": wav,
    "MP3": mp3,
    "ADTS": lambda: sound("adts", "aac") + b"TAG" + SECRET.ljust(125, b"\0"),
}


@pytest.mark.parametrize("name", MADE)
async def test_no_copy_holds_the_position(name: str):
    content = MADE[name]()
    assert SECRET in content
    info = await probe(content, "x")
    assert (info.served, info.error) == ("clean", None)
    assert info.clean is not None and SECRET not in info.clean
    assert kind_of(info.clean) == kind_of(content)
    with av.open(io.BytesIO(info.clean)) as copy, av.open(io.BytesIO(content)) as before:
        played, expected = (sum(1 for _ in each.decode(each.streams[0])) for each in (copy, before))
    assert played == expected > 0


HEAD = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom"
NEVER_SERVED = {
    "the head of an MP4 alone": HEAD,
    "an MP4 of one odd box": HEAD + b"\xa9xyz" + SECRET,
    "a box whose name is no text": HEAD + b"\0\0\0\x14\0\1\2\3" + SECRET,
    "a first box with a long size": struct.pack(">I4sQ", 1, b"ftyp", 32) + b"isom\0\0\2\0isomiso2" + SECRET,
    "WavPack": b"wvpk" + bytes(28) + SECRET,
    "MXF": b"\x06\x0e\x2b\x34\x02\x05\x01\x01" + bytes(8) + SECRET,
    "RealMedia": b".RMF\0\0\0\x12" + bytes(10) + SECRET,
}


@pytest.mark.parametrize("content", NEVER_SERVED.values(), ids=NEVER_SERVED)
async def test_media_without_a_clean_copy_are_not_served(content: bytes):
    info = await probe(content, "x.txt")
    assert (info.served, info.clean, info.thumbnail) == ("none", None, None)
    assert info.error


async def test_a_film_whose_first_box_has_a_long_size_gets_a_clean_copy():
    content = film("mp4", "libx264")
    size = int.from_bytes(content[:4], "big")
    content = struct.pack(">I4sQ", 1, b"ftyp", size + 8) + content[8:size] + content[size:]
    info = await probe(content, "x")
    assert info.served != "original"
    assert info.clean != content
