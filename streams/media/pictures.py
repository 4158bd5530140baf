"""Pictures: a copy without metadata, a thumbnail, a blurhash. Only this file knows Pillow; it runs in the sandbox."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

from blurhash_rs import blurhash_encode
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    ImageFile,
    ImageOps,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from streams.media.strip import STRIPS, NoCopy

Report: TypeAlias = Callable[[Mapping[str, object]], None]

MAX_PIXELS = 64_000_000
"""Pixels that are decoded at most, over all frames. A larger JPEG is decoded at a fraction of its size."""
THUMBNAIL = 320
_BLURRED = 32
_SUBFILE, _DNG_VERSION = 0x00FE, 0xC612
_SIXTEEN_BITS = 65535 / 255
_DECODERS = (
    AvifImagePlugin.AvifImageFile,
    BmpImagePlugin.BmpImageFile,
    GifImagePlugin.GifImageFile,
    JpegImagePlugin.JpegImageFile,
    MpoImagePlugin.MpoImageFile,
    PngImagePlugin.PngImageFile,
    TiffImagePlugin.TiffImageFile,
    WebPImagePlugin.WebPImageFile,
)
FORMATS: Mapping[str, tuple[str, ...]] = {
    "image/jpeg": ("JPEG", "MPO"),
    "image/png": ("PNG",),
    "image/gif": ("GIF",),
    "image/webp": ("WEBP",),
    "image/bmp": ("BMP",),
    "image/tiff": ("TIFF",),
    "image/avif": ("AVIF",),
    "image/heic": ("HEIF",),
}
"""Decoders of the kinds that are opened, each by its own decoder alone."""
_EXACT = {"1", "L", "LA", "P", "I;16"}
"""Modes that are saved as PNG; photos are saved as JPEG, or as WebP if they are transparent or move."""
_SAVED: Mapping[str, Mapping[str, Any]] = {
    "JPEG": {"quality": 90},
    "WEBP": {"quality": 90, "method": 2},
    "PNG": {"compress_level": 3},
}

ImageFile.LOAD_TRUNCATED_IMAGES = True  # browsers show such pictures, too
Image.MAX_IMAGE_PIXELS = None  # the limit here is on what is decoded


def load(kind: str) -> None:
    """Load the decoder of a kind that Pillow alone does not open; this takes time."""
    if kind == "image/heic":
        import pillow_heif

        pillow_heif.register_heif_opener()


def convert(folder: Path, kind: str, report: Report) -> None:
    """Write ``clean`` and ``thumbnail`` of the picture ``original``; report each step as it is done.

    Raises NoCopy, MemoryError.
    """
    content = (folder / "original").read_bytes()
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS[kind]) as picture:
            if kind == "image/tiff" and _is_raw(picture):
                raise NoCopy("no copy without metadata can be made of raw files of cameras")
            width, height = _shown_size(picture)
            if kind in STRIPS:
                (folder / "clean").write_bytes(STRIPS[kind](content))
            else:
                kind = _encode_again(picture, folder / "clean")
            made: dict[str, object] = {"mediaType": kind, "width": width, "height": height}
            report(made)
            with suppress(OSError, ValueError, SyntaxError, EOFError, MemoryError):  # it has a copy all the same
                report({**made, **preview(_first_frame(picture), folder, (width, height))})
    except (OSError, ValueError, SyntaxError, EOFError) as exc:  # UnidentifiedImageError is an OSError
        raise NoCopy("the picture is damaged or of an unknown kind") from exc


def preview(picture: Image.Image, folder: Path, size: tuple[int, int] | None = None) -> Mapping[str, object]:
    """Write ``thumbnail``, WebP in sRGB of at most 320 pixels; return the fields about it.

    ``size``: width and height of a picture of which this one is a reduced copy; the thumbnail gets its exact shape.
    """
    small = _in_srgb(_in_eight_bits(picture))
    width, height = size or picture.size
    scale = min(1.0, THUMBNAIL / max(width, height))
    small = small.resize((max(1, round(width * scale)), max(1, round(height * scale))), reducing_gap=2.0)
    small.save(folder / "thumbnail", "WEBP", quality=80)
    small.thumbnail((_BLURRED, _BLURRED))
    return {"thumbnail": True, "blurhash": blurhash_encode(small.convert("RGB"))}


def _is_raw(picture: Any) -> bool:
    """Return whether this TIFF is a raw file, whose first picture is a small preview (TIFF 6.0 §8, DNG 1.7)."""
    return bool(picture.tag_v2.get(_SUBFILE, 0) & 1) or _DNG_VERSION in picture.tag_v2


def _shown_size(picture: Image.Image) -> tuple[int, int]:
    """Return width and height of the picture as it is shown, upright."""
    turned = picture.getexif().get(0x0112, 1)
    return (picture.height, picture.width) if turned in (5, 6, 7, 8) else (picture.width, picture.height)


def _first_frame(picture: Image.Image) -> Image.Image:
    """Return the first frame, upright, and no larger than need be. Raises ValueError for one that is too large."""
    picture.seek(0)
    picture.draft(None, (2 * THUMBNAIL, 2 * THUMBNAIL))  # a JPEG is scaled while it is decoded
    if picture.width * picture.height > MAX_PIXELS:
        raise ValueError
    profile = picture.info.get("icc_profile")
    if picture.mode not in ("1", "P", "PA"):
        picture.thumbnail((2 * THUMBNAIL, 2 * THUMBNAIL), Image.Resampling.BOX, reducing_gap=2.0)
    upright = ImageOps.exif_transpose(picture)
    if profile:
        upright.info["icc_profile"] = profile
    return upright


def _in_eight_bits(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):
        return picture.convert("I").point(lambda value: value * (1 / _SIXTEEN_BITS)).convert("L")
    if picture.mode in ("1", "P", "PA", "La", "RGBa", "F") or "transparency" in picture.info:
        return picture.convert("RGBA" if "transparency" in picture.info or picture.mode == "PA" else "RGB")
    return picture


def _in_srgb(picture: Image.Image) -> Image.Image:
    """Return the picture in sRGB, by its colour profile if it has one that can be used."""
    profile, has_alpha = picture.info.get("icc_profile"), "A" in picture.getbands()
    plain = picture.convert("RGBA" if has_alpha else "RGB")
    if not profile:
        return plain
    colours = picture.convert({"LA": "L", "RGBA": "RGB"}.get(picture.mode, picture.mode))
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        shown = ImageCms.profileToProfile(colours, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return plain
    assert shown is not None
    if has_alpha:
        shown.putalpha(plain.getchannel("A"))
    return shown


def _encode_again(picture: Image.Image, path: Path) -> str:
    """Write the pixels of a picture that cannot be stripped, and its profile; return the media type.

    Raises NoCopy for one that is too large.
    """
    frames = list(_frames(picture))
    first, *others = frames
    as_kind = "PNG" if first.mode in _EXACT and not others else "JPEG" if first.mode in ("RGB", "CMYK") else "WEBP"
    if others:
        as_kind = "WEBP"
    moving = {"save_all": True, "append_images": others, "duration": _times(picture), "loop": 0} if others else {}
    profile = picture.info.get("icc_profile")
    first.save(path, as_kind, **_SAVED[as_kind], **moving, **({"icc_profile": profile} if profile else {}))
    return Image.MIME[as_kind]


def _frames(picture: Image.Image) -> Iterator[Image.Image]:
    """Yield all frames, upright and bare: of pages and of the pictures of a burst only the first."""
    count = getattr(picture, "n_frames", 1) if picture.format == "AVIF" else 1
    if picture.width * picture.height * count > MAX_PIXELS:
        raise NoCopy(f"the picture has more than {MAX_PIXELS // 1_000_000} megapixels")
    for number in range(count):
        picture.seek(number)
        upright = ImageOps.exif_transpose(picture)
        if upright.mode not in (*_EXACT, "RGB", "RGBA", "CMYK"):
            upright = _in_eight_bits(upright)
        bare = Image.new(upright.mode, upright.size)
        if upright.mode == "P" and upright.palette is not None:
            bare.putpalette(upright.palette)
        bare.paste(upright)
        yield bare


def _times(picture: Image.Image) -> list[int]:
    times = []
    for number in range(getattr(picture, "n_frames", 1)):
        picture.seek(number)
        picture.load()
        times.append(int(picture.info.get("duration", 100)))
    return times
