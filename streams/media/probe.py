"""Probe of an uploaded file: its type by content; pictures in a subprocess with hard limits."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import puremagic
import structlog

from domain.media import MediaInfo

_log = structlog.get_logger()

_DEADLINE_S = 8.0  # below a stage's attempt, so that a slow picture is an error and not a retry
_PICTURES = {"image/jpeg", "image/png", "image/gif", "image/webp", "image/bmp", "image/tiff", "image/avif"}
_REGISTERED = {"image/x-ms-bmp": "image/bmp"}
_UNKNOWN = "application/octet-stream"


def true_type(content: bytes) -> str:
    """Return the media type by the content itself, whatever the client declared."""
    with suppress(puremagic.PureError, ValueError, IndexError):
        found = puremagic.from_string(content, mime=True)
        if found:
            return _REGISTERED.get(found, str(found))
    return _UNKNOWN


async def probe(content: bytes, _: str) -> MediaInfo:
    """Return what the file is; a picture also gets a clean copy and a thumbnail."""
    began = time.monotonic()
    info = await _probe(content, true_type(content))
    ms = round((time.monotonic() - began) * 1000, 1)
    _log.debug("media_probed", media_type=info.media_type, bytes=len(content), ms=ms, reason=info.error)
    return info


async def _probe(content: bytes, kind: str) -> MediaInfo:
    if kind not in _PICTURES:
        return MediaInfo(media_type=kind)
    with tempfile.TemporaryDirectory(prefix="millrace-") as name:
        folder = Path(name)
        await asyncio.to_thread((folder / "original").write_bytes, content)
        result = await _in_subprocess(folder)
        if "error" in result:
            return MediaInfo(media_type=kind, error=str(result["error"]))
        return MediaInfo(
            media_type=str(result["mediaType"]),
            width=int(result["width"]),
            height=int(result["height"]),
            clean=await asyncio.to_thread((folder / "clean").read_bytes),
            thumbnail=await asyncio.to_thread((folder / "thumbnail").read_bytes),
        )


async def _in_subprocess(folder: Path) -> dict[str, str | int]:
    """Return what the sandbox prints: fields of the picture, or an error."""
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
        result: dict[str, str | int] = json.loads(out)
    except ValueError:
        return {"error": "the picture cannot be read within the limits"}
    return result
