"""Probe of an uploaded file: its type by content; pictures in a subprocess with hard limits and few rights."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec
import puremagic
import structlog
from msgspec import Meta

from domain.media import MediaInfo, ProbeInterrupted

_log = structlog.get_logger()

_WALL_S = 120.0
"""Time after which a picture is tried again later. It decides nothing about the picture: processor time does that."""
_PICTURES = {"image/jpeg", "image/png", "image/gif", "image/webp", "image/bmp", "image/tiff", "image/avif"}
_REGISTERED = {"image/x-ms-bmp": "image/bmp"}
_UNKNOWN = "application/octet-stream"
_TOO_LONG = "the picture takes too long"
_UNREADABLE = "the picture cannot be read within the limits"
_CRASHES = {-signal.SIGSEGV, -signal.SIGBUS, -signal.SIGILL, -signal.SIGFPE, -signal.SIGABRT}
"""Ends of a decoder that these bytes bring about each time. Any other, SIGKILL above all, is the machine's doing."""
_LAYERS = 4
_Side: TypeAlias = Annotated[int, Meta(ge=1, le=2**31)]


class _Result(msgspec.Struct, rename="camel"):
    """Output of the sandbox, which is believed no more than the picture itself."""

    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"] | None = None
    width: _Side | None = None
    height: _Side | None = None
    error: Annotated[str, Meta(max_length=200)] | None = None
    confined_by: tuple[str, ...] = ()


def true_type(content: bytes) -> str:
    """Return the media type by the content itself, whatever the client declared."""
    with suppress(puremagic.PureError, ValueError, IndexError):
        found = puremagic.from_string(content, mime=True)
        if found:
            return _REGISTERED.get(found, str(found))
    return _UNKNOWN


async def probe(content: bytes, _: str) -> MediaInfo:
    """Return what the file is; a picture also gets a clean copy and a thumbnail. Raises ProbeInterrupted."""
    began = time.monotonic()
    info = await _probe(content, await asyncio.to_thread(true_type, content))
    ms = round((time.monotonic() - began) * 1000, 1)
    _log.debug("media_probed", media_type=info.media_type, bytes=len(content), ms=ms, reason=info.error)
    return info


async def _probe(content: bytes, kind: str) -> MediaInfo:
    if kind not in _PICTURES:
        return MediaInfo(media_type=kind, served="original")
    with tempfile.TemporaryDirectory(prefix="millrace-") as name:
        folder = Path(name)
        await asyncio.to_thread((folder / "original").write_bytes, content)
        result = await _in_subprocess(folder)
        if result.error is not None:
            return MediaInfo(media_type=kind, error=result.error)
        return MediaInfo(
            media_type=result.media_type or kind,
            width=result.width,
            height=result.height,
            clean=await asyncio.to_thread(_read, folder / "clean"),
            thumbnail=await asyncio.to_thread(_read, folder / "thumbnail"),
            served="clean",
        )


async def _in_subprocess(folder: Path) -> _Result:
    """Return what the sandbox says of the picture. Raises ProbeInterrupted when it comes to no verdict."""
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
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_WALL_S):
            output = await process.stdout.readline()
            code = await process.wait()
    except TimeoutError as exc:
        raise ProbeInterrupted("the machine is too busy for this picture") from exc
    except ValueError:  # more than any honest output
        return _Result(error=_UNREADABLE)
    finally:
        if process.returncode is None:  # also when we were cancelled
            process.kill()
            await process.wait()
    return _result(output, code)


def _result(output: bytes, code: int) -> _Result:
    """Return the verdict of a sandbox that has ended with this exit code. Raises ProbeInterrupted without one."""
    if code == -signal.SIGXCPU:
        return _Result(error=_TOO_LONG)
    if code in _CRASHES:
        return _Result(error=_UNREADABLE)
    if code != 0:
        raise ProbeInterrupted(f"the decoder ended with code {code}")
    try:
        result = msgspec.json.decode(output, type=_Result)
    except msgspec.DecodeError:
        return _Result(error=_UNREADABLE)
    if len(result.confined_by) < _LAYERS:
        _log.debug("sandbox_weak", media_type=result.media_type, reason=f"only {', '.join(result.confined_by)}")
    if result.error is None and None in (result.media_type, result.width, result.height):
        return _Result(error=_UNREADABLE)
    return result


def _read(file: Path) -> bytes:
    """Return the content of a file that the sandbox has made; what it made into a link is not followed."""
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as opened:
        return opened.read()
