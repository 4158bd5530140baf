"""Sandbox ``python -m streams.media.sandbox FOLDER PARENT``: makes ``clean`` and ``thumbnail`` of ``original``.

Runs in a process of its own, with limits on memory and time and few rights, and prints one JSON object: fields of the
picture or an ``error``, which holds for these bytes for good. Without a verdict it prints nothing. Only this file knows
Pillow.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import resource
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageOps,
    ImageSequence,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from streams.media.confinement import confine

MAX_PIXELS = 24_000_000
THUMBNAIL = 320
MEMORY = 1024 * 1024 * 1024
"""Address space of the process, in bytes."""
CPU_S = 6
"""Seconds of the processor that a picture is worth. The wall clock is no measure: it depends on what else runs."""
_FILE = 128 * 1024 * 1024
_FILES = 64
_READ = [
    AvifImagePlugin.AvifImageFile,
    BmpImagePlugin.BmpImageFile,
    GifImagePlugin.GifImageFile,
    JpegImagePlugin.JpegImageFile,
    PngImagePlugin.PngImageFile,
    TiffImagePlugin.TiffImageFile,
    WebPImagePlugin.WebPImageFile,
]
"""Decoders of the formats that are served. A picture of any other format is not opened."""
_FORMATS = [str(decoder.format) for decoder in _READ]
_LIBRARIES = [Path(str(os.__file__)).parent, Path(str(Image.__file__)).parents[1]]
_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif"}
_SAVED = {"JPEG": {"quality": 90}, "WEBP": {"quality": 90}, "PNG": {"compress_level": 3}}
_KEPT_AS = {**{kind: kind for kind in _TYPES}, MpoImagePlugin.MpoImageFile.format: "JPEG"}
_PLAIN = {  # modes that a kind can hold as they are; not P, whose palette would be lost
    "JPEG": {"L", "RGB", "CMYK"},
    "PNG": {"1", "L", "LA", "RGB", "RGBA", "I;16"},
    "WEBP": {"RGB", "RGBA"},
    "GIF": {"L", "RGB", "RGBA"},
}


def limit(parent: int) -> None:
    """Limit memory and time of this process to what a picture is worth, and end it with its parent."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + 1))  # at the first it gets SIGXCPU, by which it is known
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE, _FILE))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, _FILES))
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


def run(folder: Path) -> dict[str, str | int | list[str]]:
    """Confine this process to the folder, and convert the picture in it.

    Raises MemoryError when it is the machine, and not our limit, that has no memory left.
    """
    with Path("/proc/self/status").open("rb", buffering=0) as status:
        # The interpreter may load more of itself later on: its own files may be read.
        layers = confine(_LIBRARIES, folder)
        try:
            result = convert(folder)
        except MemoryError:
            if not _has_reached_limit(status.read().decode()):
                raise
            result = {"error": "the picture needs too much memory"}
    return {**result, "confinedBy": layers}


def _has_reached_limit(status: str) -> bool:
    """Return whether this process has had so much address space that the limit may be what refused more."""
    [peak] = [line.split()[1] for line in status.splitlines() if line.startswith("VmPeak:")]
    return int(peak) * 1024 > MEMORY // 2


def convert(folder: Path) -> dict[str, str | int]:
    """Write both files; return media type and size of the picture, or an error. Raises MemoryError."""
    try:
        with Image.open(folder / "original", formats=_FORMATS) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                return {"error": f"the picture has more than {MAX_PIXELS // 1_000_000} megapixels"}
            kind = _KEPT_AS.get(picture.format or "", "PNG")
            frames = [_bare(frame, kind) for frame in _frames(picture, kind)]
            times = picture.info.get("duration", 100)
            return _save(frames, times, kind, folder)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError):
        return {"error": "the picture is damaged or of an unknown kind"}
    except Image.DecompressionBombError:
        return {"error": "the picture is too large"}


def _frames(picture: Image.Image, kind: str) -> Iterator[Image.Image]:
    """Yield all frames of a GIF if they fit the limit together; else the first frame."""
    yield picture
    count = getattr(picture, "n_frames", 1)
    if kind == "GIF" and picture.width * picture.height * count <= MAX_PIXELS:
        yield from itertools.islice(ImageSequence.Iterator(picture), 1, None)


def _bare(picture: Image.Image, kind: str) -> Image.Image:
    """Return the picture upright, with its pixels only: without EXIF, XMP, comments and profiles."""
    upright = ImageOps.exif_transpose(picture)
    if upright.mode not in _PLAIN[kind] or "transparency" in upright.info:
        upright = upright.convert("RGB" if kind == "JPEG" or upright.mode == "CMYK" else "RGBA")
    bare = Image.new(upright.mode, upright.size)
    bare.paste(upright)
    return bare


def _save(frames: Sequence[Image.Image], times: int, kind: str, folder: Path) -> dict[str, str | int]:
    first, *others = frames
    moving = {"save_all": True, "append_images": others, "duration": times, "loop": 0, "disposal": 2} if others else {}
    first.save(folder / "clean", kind, **_SAVED.get(kind, {}), **moving)
    small = first.convert("RGBA" if "A" in first.getbands() else "RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    small.save(folder / "thumbnail", "WEBP", quality=80)
    return {"mediaType": _TYPES[kind], "width": first.width, "height": first.height}


if __name__ == "__main__":
    limit(int(sys.argv[2]))
    print(json.dumps(run(Path(sys.argv[1]))))  # noqa: T201
