"""Positions before, between and behind the frames of audio, and in what a decoder never looks at."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import pytest
from PIL import Image

from domain.media import MediaInfo
from streams.media.ends import flac_frame, mpeg_audio_frame
from streams.media.probe import probe
from streams.media.strip import strip_jpeg

SECRET = b"GPS-48.8583N-2.2945E"
RATE = 48_000
TAG = b"TAG" + SECRET.ljust(125, b"\0")
ID3 = b"ID3\3\0\0\0\0\0" + bytes((11 + len(SECRET),)) + b"TXXX\0\0\0" + bytes((1 + len(SECRET),)) + b"\0\0\0" + SECRET


def sound(kind: str, codec: str) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format=kind) as container:
        stream = container.add_stream(codec, RATE)
        stream.layout = "mono"
        samples = stream.codec_context.frame_size or 1024
        for number in range(8):
            frame = av.AudioFrame(stream.codec_context.format.name, "mono", samples)
            frame.sample_rate, frame.pts, frame.time_base = RATE, number * samples, Fraction(1, RATE)
            for plane in frame.planes:
                plane.update(bytes(range(256)) * (plane.buffer_size // 256) + bytes(plane.buffer_size % 256))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return out.getvalue()


def samples(content: bytes) -> list[bytes]:
    with av.open(io.BytesIO(content)) as container:
        return [bytes(frame.planes[0]) for frame in container.decode(audio=0)]


async def look(content: bytes) -> MediaInfo:
    info = await probe(content, "x")
    assert SECRET not in (info.clean or b"") + (info.thumbnail or b"")
    return info


@pytest.mark.parametrize("junk", [TAG, SECRET * 9, ID3 + TAG])
async def test_flac_ends_with_its_last_frame(junk: bytes):
    content = sound("flac", "flac")
    info = await look(content + junk)
    assert info.clean is not None
    assert samples(info.clean) == samples(content)


async def test_joined_mp3_files_lose_the_tags_between_them():
    content = sound("mp3", "libmp3lame")
    info = await look(ID3 + content + TAG + ID3 + content + SECRET + content + TAG)
    assert info.clean is not None
    assert len(samples(info.clean)) >= 3 * len(samples(content))


def wav_of_unknown_length(size: bytes) -> bytes:
    content = sound("wav", "pcm_s16le")
    at = content.index(b"data") + 4
    tags = b"iXML" + len(SECRET).to_bytes(4, "little") + SECRET
    return content[:at] + size + content[at + 4 :] + tags


@pytest.mark.parametrize("size", [bytes(4), b"\xff" * 4])
async def test_wav_of_unknown_length_may_end_with_tags(size: bytes):
    info = await look(wav_of_unknown_length(size))
    assert (info.served, info.error) == ("none", "the recording does not say how long it is")


@pytest.mark.parametrize("extra", [{254: 1}, {50706: b"\1\4\0\0"}])
async def test_the_preview_in_a_raw_file_does_not_stand_for_it(extra: dict[int, object]):
    out = io.BytesIO()
    Image.new("RGB", (16, 12)).save(out, "TIFF", tiffinfo={**extra, 0x010E: SECRET.decode()})
    info = await look(out.getvalue())
    assert (info.served, info.error) == ("none", "no copy without metadata can be made of raw files of cameras")


async def test_av1_is_copied():
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        container.metadata["comment"] = SECRET.decode()
        stream = container.add_stream("libsvtav1", 25, width=96, height=64, pix_fmt="yuv420p")
        for number in range(3):
            frame = av.VideoFrame.from_image(Image.new("RGB", (96, 64), (number, 90, 0)))
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    info = await look(out.getvalue())
    assert (info.served, info.error, info.width, info.height) == ("clean", None, 96, 64)
    assert info.thumbnail


def test_an_adobe_segment_of_a_jpeg_ends_where_its_fields_end():
    out = io.BytesIO()
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(out, "JPEG")
    content, adobe = out.getvalue(), b"Adobe\0\x64\0\0\0\0"
    at = content.index(adobe)
    size = int.from_bytes(content[at - 2 : at], "big")
    longer = content[: at - 2] + (size + len(SECRET)).to_bytes(2, "big") + content[at : at + size - 2] + SECRET
    clean = strip_jpeg(longer + content[at + size - 2 :])
    assert SECRET not in clean
    with Image.open(io.BytesIO(clean)) as copy, Image.open(out) as before:
        assert copy.tobytes() == before.tobytes()


@pytest.mark.parametrize("cut", [mpeg_audio_frame, flac_frame])
def test_bytes_without_a_frame_are_nothing(cut):
    assert cut(b"") == b""
    assert cut(SECRET) == b""
