"""Pictures without their metadata: what goes, what stays, and what damage does."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from streams.media.strip import STRIPS, orientation, strip_gif, strip_jpeg, strip_png, strip_webp

SECRET = b"48.8583N 2.2945E"
PICTURE = Image.linear_gradient("L").resize((64, 48)).convert("RGB")
FRAMES = [Image.new("RGB", (24, 16), (n * 60, 10, 200 - n * 50)) for n in range(4)]
TIMES = [100, 2000, 300, 400]
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b"<x:xmpmeta>" + SECRET + b"</x:xmpmeta>"


def exif(turned: int = 1) -> Image.Exif:
    tags = Image.Exif()
    tags[0x010E] = SECRET.decode()
    tags[0x0112] = turned
    tags.get_ifd(0x8825)[1] = "N"
    tags.get_ifd(0x8825)[2] = (48.0, 51.0, 30.0)
    return tags


def saved(kind: str, turned: int = 1, **more: object) -> bytes:
    out = io.BytesIO()
    PICTURE.save(out, kind, exif=exif(turned), **more)
    return out.getvalue()


def moving(kind: str, **more: object) -> bytes:
    out = io.BytesIO()
    FRAMES[0].save(out, kind, save_all=True, append_images=FRAMES[1:], duration=TIMES, **more)
    return out.getvalue()


def jpeg(**more: object) -> bytes:
    return saved("JPEG", comment=SECRET, xmp=XMP, icc_profile=PROFILE, quality=90, **more)


def png() -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", SECRET.decode())
    text.add_text("Zipped", SECRET.decode() * 50, zip=True)
    text.add_itxt("XML:com.adobe.xmp", XMP.decode(), zip=True)
    return saved("PNG", pnginfo=text, icc_profile=PROFILE)


def gif() -> bytes:
    content = moving("GIF", comment=SECRET, loop=3)
    xmp = b"\x21\xff\x0bXMP DataXMP" + XMP + bytes(range(256)) + b"\0"
    at = content.index(b"\x21\xf9")
    return content[:at] + bytes((*xmp[:14], len(SECRET), *SECRET, 0)) + content[at:]


def webp() -> bytes:
    return saved("WEBP", xmp=XMP, icc_profile=PROFILE, lossless=True)


def motion_photo() -> bytes:
    return jpeg() + b"\0\0\0\x20ftypisom" + SECRET * 4


def two_pictures() -> bytes:
    out = io.BytesIO()
    PICTURE.save(out, "MPO", save_all=True, append_images=[PICTURE], exif=exif())
    return out.getvalue()


def metadata_between_scans() -> bytes:
    content = jpeg(progressive=True)
    at = content.rindex(b"\xff\xda")
    return content[:at] + b"\xff\xfe" + (len(SECRET) + 2).to_bytes(2, "big") + SECRET + content[at:]


def behind_the_end_of_png() -> bytes:
    return png() + SECRET


def private_chunk() -> bytes:
    kind = b"gpSs" + SECRET
    content = png()
    return content[:33] + len(SECRET).to_bytes(4, "big") + kind + zlib.crc32(kind).to_bytes(4, "big") + content[33:]


WITH_SECRETS: dict[str, Callable[[], bytes]] = {
    "jpeg": jpeg,
    "motion photo": motion_photo,
    "two pictures": two_pictures,
    "jpeg between scans": metadata_between_scans,
    "png": png,
    "png behind its end": behind_the_end_of_png,
    "png private chunk": private_chunk,
    "moving png": lambda: moving("PNG", exif=exif()),
    "webp": webp,
    "moving webp": lambda: moving("WEBP", lossless=True, exif=exif(), xmp=XMP),
    "webp behind its end": lambda: webp() + SECRET,
    "gif": gif,
    "gif behind its end": lambda: moving("GIF") + SECRET,
}


def stripped(content: bytes) -> bytes:
    kind = Image.MIME[Image.open(io.BytesIO(content)).format or ""].replace("image/mpo", "image/jpeg")
    return STRIPS[kind](content)


def shown(content: bytes) -> list[tuple[object, ...]]:
    """Return the pixels, the time and the loops of every frame, as a viewer shows them."""
    picture, frames = Image.open(io.BytesIO(content)), []
    for n in range(getattr(picture, "n_frames", 1) if picture.format != "MPO" else 1):
        picture.seek(n)
        upright = ImageOps.exif_transpose(picture)
        frames.append((upright.convert("RGBA").tobytes(), picture.info.get("duration"), picture.info.get("loop")))
    return frames


@pytest.mark.parametrize("name", WITH_SECRETS)
def test_the_copy_shows_the_same_and_says_nothing_else(name: str):
    content = WITH_SECRETS[name]()
    copy = stripped(content)
    assert shown(copy) == shown(content)
    assert SECRET not in copy
    picture = Image.open(io.BytesIO(copy))
    picture.load()
    assert not dict(picture.getexif())
    assert not picture.info.keys() & {"comment", "xmp", "XML:com.adobe.xmp", "Comment", "Zipped"}
    assert len(copy) < len(content)


@pytest.mark.parametrize("make", [jpeg, png, webp], ids=["jpeg", "png", "webp"])
def test_the_colour_profile_stays(make: Callable[[], bytes]):
    assert Image.open(io.BytesIO(stripped(make()))).info["icc_profile"] == PROFILE


@pytest.mark.parametrize("turned", range(2, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_picture_stays_upright(kind: str, turned: int):
    content = saved(kind, turned)
    copy = stripped(content)
    assert dict(Image.open(io.BytesIO(copy)).getexif()) == {0x0112: turned}
    assert shown(copy) == shown(content)
    assert SECRET not in copy


@pytest.mark.parametrize("loops", [None, 0, 3])
def test_a_gif_plays_as_often_as_before(loops: int | None):
    content = moving("GIF", **({} if loops is None else {"loop": loops}))
    assert [loop for _, _, loop in shown(strip_gif(content))] == [loops] * 4


@pytest.mark.parametrize("make", [jpeg, png, gif], ids=["jpeg", "png", "gif"])
def test_of_a_truncated_picture_the_rest_is_kept(make: Callable[[], bytes], monkeypatch):
    monkeypatch.setattr("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", True)
    content = make()
    copy = stripped(content[: len(content) * 9 // 10])
    assert SECRET not in copy
    assert Image.open(io.BytesIO(copy)).size == Image.open(io.BytesIO(content)).size
    Image.open(io.BytesIO(copy)).load()


@pytest.mark.parametrize("make", [jpeg, png, webp, gif], ids=["jpeg", "png", "webp", "gif"])
def test_stripping_twice_changes_nothing(make: Callable[[], bytes]):
    copy = stripped(make())
    assert stripped(copy) == copy


HEADS = {
    strip_jpeg: b"\xff\xd8\xff",
    strip_png: b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    strip_webp: b"RIFF\xff\0\0\0WEBP",
    strip_gif: b"GIF89a\x10\0\x10\0",
}


@example(rest=b"\0\0\0,\0\0\0\0\0\0\0\0\0\0\x01")
@given(rest=st.binary(max_size=300))
@pytest.mark.parametrize("strip", HEADS, ids=lambda strip: strip.__name__)
def test_any_bytes_are_a_picture_or_a_value_error(strip, rest: bytes):
    try:
        copy = strip(HEADS[strip] + rest)
    except ValueError:
        return
    assert strip(copy) == copy


@pytest.mark.parametrize("strip", HEADS, ids=lambda strip: strip.__name__)
def test_other_files_are_refused(strip):
    for content in (b"", b"%PDF-1.7", *(head for other, head in HEADS.items() if other is not strip)):
        with pytest.raises(ValueError, match="not a"):
            strip(content)


@given(st.binary(max_size=200))
def test_an_orientation_is_always_one_of_eight(rest: bytes):
    for order in (b"II*\0", b"MM\0*"):
        assert 1 <= orientation(order + rest) <= 8
    assert orientation(rest) == 1 or rest[:4] in (b"II*\0", b"MM\0*")
