"""Looking at a file that a stranger sent: its type by content, pictures in a subprocess with hard limits."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import puremagic

from domain.media import MediaInfo

_DEADLINE_S = 8.0  # below a stage's attempt: what takes too long is told, not tried again
_PICTURES = {"image/jpeg", "image/png", "image/gif", "image/webp", "image/bmp", "image/tiff", "image/avif"}
_REGISTERED = {"image/x-ms-bmp": "image/bmp"}
_UNKNOWN = "application/octet-stream"


def true_type(content: bytes) -> str:
    """The media type that the content itself shows, whatever the client said."""
    with suppress(puremagic.PureError, ValueError, IndexError):
        found = puremagic.from_string(content, mime=True)
        if found:
            return _REGISTERED.get(found, str(found))
    return _UNKNOWN


async def probe(content: bytes, _: str) -> MediaInfo:
    """What the file is; a picture also gets a clean copy and a thumbnail."""
    kind = true_type(content)
    if kind not in _PICTURES:
        return MediaInfo(media_type=kind)
    with tempfile.TemporaryDirectory(prefix="millrace-") as name:
        folder = Path(name)
        await asyncio.to_thread((folder / "original").write_bytes, content)
        said = await _in_subprocess(folder)
        if "error" in said:
            return MediaInfo(media_type=kind, error=str(said["error"]))
        return MediaInfo(
            media_type=str(said["mediaType"]),
            width=int(said["width"]),
            height=int(said["height"]),
            clean=await asyncio.to_thread((folder / "clean").read_bytes),
            thumbnail=await asyncio.to_thread((folder / "thumbnail").read_bytes),
        )


async def _in_subprocess(folder: Path) -> dict[str, str | int]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "streams.media.sandbox",
        str(folder),
        str(os.getpid()),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG") if name in os.environ},
    )
    try:
        async with asyncio.timeout(_DEADLINE_S):
            out, _ = await process.communicate()
    except TimeoutError:
        return {"error": "the picture takes too long"}
    finally:
        if process.returncode is None:  # also when we were cancelled
            process.kill()
            await process.wait()
    try:
        said: dict[str, str | int] = json.loads(out)
    except ValueError:
        return {"error": "the picture cannot be read within the limits"}
    return said
