"""``python -m streams.imaging FOLDER PARENT``: ``original`` in the folder becomes ``clean`` and ``thumbnail``.

Runs alone, with limits on memory and time, and prints one JSON object. Only this file knows Pillow.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

MAX_PIXELS = 24_000_000
THUMBNAIL = 320
_MEMORY = 1024 * 1024 * 1024
_CPU_S = 8
_SAME = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif"}


def limit(parent: int) -> None:
    """No more memory and time than a picture is worth; and never without the parent."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


def convert(folder: Path) -> dict[str, str | int]:
    """Make both files; say what the picture is, or why not."""
    try:
        with Image.open(folder / "original") as picture:
            if picture.width * picture.height > MAX_PIXELS:
                return {"error": f"the picture has more than {MAX_PIXELS // 1_000_000} megapixels"}
            kind = picture.format if picture.format in _SAME else "PNG"
            upright = ImageOps.exif_transpose(picture)
            return _save(upright, kind or "PNG", folder)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, MemoryError, EOFError):
        return {"error": "the picture is damaged or of an unknown kind"}
    except Image.DecompressionBombError:
        return {"error": "the picture is too large"}


def _save(picture: Image.Image, kind: str, folder: Path) -> dict[str, str | int]:
    bare = Image.new(picture.mode, picture.size)  # pixels only: EXIF, XMP, comments and profiles stay behind
    bare.paste(picture)
    if picture.mode == "P" and picture.palette is not None:
        bare.putpalette(picture.palette)
    quality = {"quality": 90} if kind in ("JPEG", "WEBP") else {}
    bare.save(folder / "clean", kind, **quality)
    small = picture.convert("RGBA" if "A" in picture.getbands() or picture.mode == "P" else "RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    small.info.clear()
    small.save(folder / "thumbnail", "WEBP", quality=80)
    return {"mediaType": _SAME[kind], "width": picture.width, "height": picture.height}


if __name__ == "__main__":
    limit(int(sys.argv[2]))
    print(json.dumps(convert(Path(sys.argv[1]))))  # noqa: T201
