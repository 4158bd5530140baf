"""Files with a position in them, as phones and recorders write them: no member gets it, in any kind of file."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable

import av
import pillow_heif
import pytest
from PIL import Image

from domain.media import MediaInfo
from streams.media import movies, pictures
from streams.media.kinds import PICTURES, RECORDINGS, kind_of
from streams.media.probe import probe
from tests.recordings import PICTURE, recording

SECRET = "GPS-48.8583N-2.2945E"


def exif(turned: int = 1) -> Image.Exif:
    tags = Image.Exif()
    tags[0x010E], tags[0x0112] = SECRET, turned
    return tags


def picture(kind: str, image: Image.Image = PICTURE, turned: int = 1, **more: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, exif=exif(turned), **more)
    return out.getvalue()


def heic() -> bytes:
    pillow_heif.register_heif_opener()
    return picture("HEIF", quality=50)


def tiff() -> bytes:
    out = io.BytesIO()
    PICTURE.save(out, "TIFF", tiffinfo={0x010E: SECRET, 0x8298: SECRET})
    return out.getvalue()


def dng() -> bytes:
    out = io.BytesIO()
    PICTURE.save(out, "TIFF", tiffinfo={0x010E: SECRET, 50706: bytes((1, 4, 0, 0))})
    return out.getvalue()


def located(kind: str, video: str | None, audio: str | None) -> bytes:
    """Return a recording with the position in every place for metadata that the container has."""
    return recording(kind, video, audio, location=SECRET, comment=SECRET, title=SECRET)


def mp3_with_tags_at_both_ends() -> bytes:
    item = SECRET.encode()
    ape = b"APETAGEX" + (2000).to_bytes(4, "little") + (32 + 8 + 9 + len(item)).to_bytes(4, "little")
    ape += (1).to_bytes(4, "little") + bytes(12) + len(item).to_bytes(4, "little") + bytes(4) + b"Comment\0" + item
    return located("mp3", None, "libmp3lame") + ape + b"TAG" + item.ljust(125, b"\0")


def box(kind: bytes, content: bytes) -> bytes:
    return (8 + len(content)).to_bytes(4, "big") + kind + content


def mp4_with_boxes_of_cameras() -> bytes:
    content = located("mp4", "libx264", "aac")
    return content + box(b"uuid", bytes(16) + SECRET.encode()) + box(b"skip", SECRET.encode())


def motion_photo() -> bytes:
    return picture("JPEG") + located("mp4", "libx264", None)


WITH_POSITION: dict[str, tuple[Callable[[], bytes], str]] = {
    "JPEG": (lambda: picture("JPEG"), "image/jpeg"),
    "motion photo": (motion_photo, "image/jpeg"),
    "truncated JPEG": (lambda: picture("JPEG")[:-40], "image/jpeg"),
    "PNG": (lambda: picture("PNG"), "image/png"),
    "WebP": (lambda: picture("WEBP"), "image/webp"),
    "GIF": (lambda: picture("GIF", comment=SECRET.encode()), "image/gif"),
    "AVIF": (lambda: picture("AVIF"), "image/jpeg"),
    "HEIC": (heic, "image/jpeg"),
    "TIFF": (tiff, "image/jpeg"),
    "MP4": (lambda: located("mp4", "libx264", "aac"), "video/mp4"),
    "MP4, HEVC": (lambda: located("mp4", "libx265", "aac"), "video/mp4"),
    "MP4 with boxes of cameras": (mp4_with_boxes_of_cameras, "video/mp4"),
    "QuickTime": (lambda: located("mov", "libx264", "aac"), "video/quicktime"),
    "3GP": (lambda: located("3gp", "mpeg4", "aac"), "video/mp4"),
    "WebM": (lambda: located("webm", "libvpx-vp9", "libopus"), "video/webm"),
    "Matroska": (lambda: located("matroska", "libx264", "libopus"), "video/x-matroska"),
    "AVI": (lambda: located("avi", "mpeg4", "libmp3lame"), "video/x-msvideo"),
    "M4A": (lambda: located("ipod", None, "aac"), "audio/mp4"),
    "MP3": (mp3_with_tags_at_both_ends, "audio/mpeg"),
    "Ogg": (lambda: located("ogg", None, "libopus"), "audio/ogg"),
    "FLAC": (lambda: located("flac", None, "flac"), "audio/flac"),
    "WAV": (lambda: located("wav", None, "pcm_s16le"), "audio/wav"),
    "AIFF": (lambda: located("aiff", None, "pcm_s16be"), "audio/aiff"),
}


@pytest.fixture(autouse=True)
def _quiet():
    av.logging.set_level(av.logging.ERROR)
    logging.getLogger("libav").setLevel(logging.ERROR)


@pytest.mark.parametrize("name", WITH_POSITION)
async def test_a_member_gets_the_file_without_its_position(name: str):
    make, media_type = WITH_POSITION[name]
    content = make()
    assert SECRET.encode() in content
    info = await probe(content, "IMG_1.txt")
    assert (info.served, info.error, info.media_type) == ("clean", None, media_type)
    assert info.clean is not None
    assert SECRET.encode() not in info.clean + (info.thumbnail or b"")
    if media_type.startswith("audio/"):
        assert info.width is info.thumbnail is None
    else:
        assert (info.width, info.height) == (96, 64)
        assert info.thumbnail is not None
        assert info.blurhash
    if not media_type.startswith("image/"):
        assert info.duration_ms is not None
        assert 100 <= info.duration_ms <= 300


@pytest.mark.parametrize(
    "content",
    [
        box(b"ftyp", b"heic\0\0\0\0mif1heic") + box(b"mdat", SECRET.encode()),
        box(b"ftyp", b"isom\0\0\2\0isomiso2") + box(b"mdat", SECRET.encode()),
        box(b"ftyp", b"qt  \0\0\2\0qt  ") + box(b"moov", box(b"udta", SECRET.encode())),
        b"\xff\xd8\xff\xe1" + SECRET.encode(),
        b"8BPS\0\1" + bytes(20) + SECRET.encode(),
        b"II*\0\x08\0\0\0" + SECRET.encode() * 3,
        dng(),
        b"\0\0\0\x0cJXL \r\n\x87\n" + SECRET.encode(),
        b"ID3\x04\0\0\0\0\0\x20" + SECRET.encode() * 2,
        b"\x1a\x45\xdf\xa3" + SECRET.encode(),
    ],
    ids=["heic", "mp4", "mov", "jpeg", "psd", "tiff", "dng", "jxl", "mp3", "mkv"],
)
async def test_of_media_without_a_clean_copy_members_get_nothing(content: bytes):
    info = await probe(content, "a.txt")
    assert (info.served, info.clean, info.thumbnail) == ("none", None, None)
    assert info.error


@pytest.mark.parametrize(
    "content",
    [
        b"BM is how this text begins, and it is no bitmap",
        b"%PDF-1.7\n1 0 obj",
        b"PK\x03\x04" + bytes(40),
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        b"P3 1 1 255 0 0 0",
        b"",
        box(b"ftyp", b"isom\0\0\2\0isomiso2avc1mp41") + bytes(range(256)) * 400,
    ],
    ids=["text", "pdf", "zip", "svg", "ppm", "empty", "no boxes"],
)
async def test_documents_are_served_as_they_are(content: bytes):
    assert (await probe(content, "a.jpg")).served == "original"


@pytest.mark.parametrize("turned", [1, 3, 6, 8])
async def test_a_picture_is_shown_upright(turned: int):
    info = await probe(picture("JPEG", turned=turned), "a")
    assert (info.width, info.height) == ((64, 96) if turned in (6, 8) else (96, 64))
    assert Image.open(io.BytesIO(info.thumbnail or b"")).size == (info.width, info.height)


async def test_sixteen_bits_are_scaled_in_the_thumbnail():
    line = b"".join((n * 257).to_bytes(2, "little") for n in range(256))
    info = await probe(picture("PNG", Image.frombytes("I;16", (256, 256), line * 256)), "a.png")
    small = Image.open(io.BytesIO(info.thumbnail or b"")).convert("L")
    for x in (32, 128, 224):
        assert abs(int(small.getpixel((x, 128))) - x) < 8  # type: ignore[arg-type]


async def test_a_picture_of_two_hundred_megapixels_has_a_copy_and_a_thumbnail():
    out = io.BytesIO()
    Image.new("L", (16_320, 12_240), 128).save(out, "JPEG", exif=exif(), quality=10)
    info = await probe(out.getvalue(), "a.jpg")
    assert (info.served, info.width, info.height) == ("clean", 16_320, 12_240)
    assert SECRET.encode() not in (info.clean or b"")
    assert Image.open(io.BytesIO(info.thumbnail or b"")).size == (320, 240)


async def test_a_picture_that_is_too_large_to_decode_still_has_its_copy():
    info = await probe(picture("PNG", Image.new("1", (30_000, 3_000))), "a.png")
    assert (info.served, info.width, info.thumbnail) == ("clean", 30_000, None)


@pytest.mark.parametrize("kind", ["WEBP", "PNG", "GIF"])
async def test_a_picture_that_moves_goes_on_moving(kind: str):
    frames = [Image.new("RGB", (60, 40), (n * 60, 10, 200 - n * 50)) for n in range(4)]
    out, times = io.BytesIO(), [100, 2000, 300, 400]
    frames[0].save(out, kind, save_all=True, append_images=frames[1:], duration=times)
    moved = Image.open(io.BytesIO(await _clean(out.getvalue())))
    found = []
    for number in range(4):
        moved.seek(number)
        moved.load()
        found.append(int(moved.info["duration"]))
    assert found == times


async def test_a_portrait_video_stays_upright():
    """Phones record in landscape and note how the picture is turned, in the matrix of the track."""
    content = bytearray(located("mp4", "libx264", None))
    unit, turned = (1 << 16).to_bytes(4, "big"), (-(1 << 16)).to_bytes(4, "big", signed=True)
    zero = bytes(4)
    plain, quarter = unit + zero * 3 + unit, zero + unit + zero + turned + zero
    at = content.index(plain, content.index(b"tkhd"))
    content[at : at + len(plain)] = quarter
    info = await probe(bytes(content), "a.mp4")
    assert (info.served, info.width, info.height) == ("clean", 64, 96)
    assert Image.open(io.BytesIO(info.thumbnail or b"")).size == (64, 96)


async def test_a_video_can_be_played_while_it_is_loaded():
    clean = await _clean(located("mp4", "libx264", "aac"))
    assert clean.index(b"moov") < clean.index(b"mdat")


def test_each_kind_that_is_opened_has_its_decoder():
    assert set(pictures.FORMATS) == PICTURES
    assert set(movies.CONTAINERS) == RECORDINGS


def test_a_file_is_what_it_contains():
    for make, _ in WITH_POSITION.values():
        assert kind_of(make()) in PICTURES | RECORDINGS


async def _clean(content: bytes) -> bytes:
    info: MediaInfo = await probe(content, "a")
    assert info.clean is not None
    return info.clean
