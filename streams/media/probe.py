"""Probe of an uploaded file: its type by content; media are opened in a subprocess with hard limits and few rights."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, TypeAlias

import msgspec
import structlog
from msgspec import Meta

from domain.media import MediaInfo, ProbeInterrupted
from streams.media.kinds import PICTURES, RECORDINGS, is_empty, is_medium, kind_of

_log = structlog.get_logger()

_WALL_S = 120.0
"""Time after which a file is tried again later. It decides nothing about the file: processor time does that."""
_UNKNOWN_KIND = "no copy without metadata can be made of files of this kind"
_TOO_LONG = "the file takes too long"
_UNREADABLE = "the file cannot be read within the limits"
_CRASHES = {-signal.SIGSEGV, -signal.SIGBUS, -signal.SIGILL, -signal.SIGFPE, -signal.SIGABRT}
"""Ends of a decoder that these bytes bring about each time. Any other, SIGKILL above all, is the machine's doing."""
_LAYERS = 4
_OUTPUT = 64 * 1024
_Side: TypeAlias = Annotated[int, Meta(ge=1, le=2**31)]


class _Result(msgspec.Struct, rename="camel"):
    """Output of the sandbox, which is believed no more than the file itself."""

    media_type: Annotated[str, Meta(pattern=r"^(image|audio|video)/[a-z0-9.-]{1,40}\Z")] | None = None
    width: _Side | None = None
    height: _Side | None = None
    duration_ms: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    blurhash: Annotated[str, Meta(max_length=64)] | None = None
    thumbnail: bool = False
    error: Annotated[str, Meta(max_length=200)] | None = None
    confined_by: tuple[str, ...] = ()


async def probe(content: bytes, _: str) -> MediaInfo:
    """Return what the file is; a picture, audio or video also gets a clean copy. Raises ProbeInterrupted."""
    began = time.monotonic()
    info = await _probe(content, await asyncio.to_thread(kind_of, content))
    ms = round((time.monotonic() - began) * 1000, 1)
    _log.debug("media_probed", media_type=info.media_type, bytes=len(content), ms=ms, reason=info.error)
    return info


async def _probe(content: bytes, kind: str) -> MediaInfo:
    if not is_medium(kind) or is_empty(content, kind):
        return MediaInfo(media_type=kind, served="original")
    if kind not in PICTURES | RECORDINGS:
        return MediaInfo(media_type=kind, error=_UNKNOWN_KIND)
    with tempfile.TemporaryDirectory(prefix="millrace-") as name:
        folder = Path(name)
        await asyncio.to_thread((folder / "original").write_bytes, content)
        result = await _in_subprocess(folder, kind)
        if result.error is not None or result.media_type is None:
            return MediaInfo(media_type=kind, error=result.error or _UNREADABLE)
        try:
            clean = await asyncio.to_thread(_read, folder / "clean")
            thumbnail = await asyncio.to_thread(_read, folder / "thumbnail") if result.thumbnail else None
        except OSError:  # it has not made what it reports, or has made it into a link
            return MediaInfo(media_type=kind, error=_UNREADABLE)
        return MediaInfo(
            media_type=result.media_type,
            width=result.width,
            height=result.height,
            duration_ms=result.duration_ms,
            blurhash=result.blurhash,
            clean=clean,
            thumbnail=thumbnail,
            served="clean",
        )


async def _in_subprocess(folder: Path, kind: str) -> _Result:
    """Return what the sandbox says of the file. Raises ProbeInterrupted when it comes to no verdict."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "streams.media.sandbox",
        str(folder),
        str(os.getpid()),
        kind,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG") if name in os.environ},
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_WALL_S):
            output = await _output(process.stdout)
            code = await process.wait()
    except TimeoutError as exc:
        raise ProbeInterrupted("the machine is too busy for this file") from exc
    except ValueError:  # more than any honest output; its writer is ended, since nobody reads on
        return _Result(error=_UNREADABLE)
    finally:
        if process.returncode is None:  # also when we were cancelled
            process.kill()
            # asyncio sees the end of a process once its output is read to the end, and stops reading what is not taken.
            while await process.stdout.read(_OUTPUT):
                pass
            await process.wait()
    return _result(output, code)


async def _output(stream: asyncio.StreamReader) -> bytes:
    """Return what the sandbox prints. Raises ValueError when that is more than an honest one prints."""
    output = b""
    while part := await stream.read(_OUTPUT):
        output += part
        if len(output) > _OUTPUT:
            raise ValueError("too much output")
    return output


def _result(output: bytes, code: int) -> _Result:
    """Return the verdict of a sandbox that has ended with this exit code. Raises ProbeInterrupted without one."""
    result = _last_line(output)
    if code == 0:
        return result or _Result(error=_UNREADABLE)
    if code != -signal.SIGXCPU and code not in _CRASHES:
        raise ProbeInterrupted(f"the decoder ended with code {code}")
    if result is not None:  # the copy is made, and only the thumbnail is missing
        return result
    return _Result(error=_TOO_LONG if code == -signal.SIGXCPU else _UNREADABLE)


def _last_line(output: bytes) -> _Result | None:
    """Return the last step that the sandbox reports; None when there is none that can be believed."""
    try:
        result = msgspec.json.decode(output.splitlines()[-1], type=_Result)
    except (IndexError, msgspec.DecodeError):
        return None
    if len(result.confined_by) < _LAYERS:
        _log.debug("sandbox_weak", media_type=result.media_type, reason=f"only {', '.join(result.confined_by)}")
    return result


def _read(file: Path) -> bytes:
    """Return the content of a file that the sandbox has made; what it made into a link is not followed."""
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as opened:
        return opened.read()
