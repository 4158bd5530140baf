"""A child process that never outlives its parent, and that Ctrl-C in a terminal does not reach."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from stack.log_files import rotate

_PR_SET_PDEATHSIG = 1
_LONGEST_LINE = 1024 * 1024
_libc = ctypes.CDLL(None, use_errno=True)

User = tuple[int, int]
Check: TypeAlias = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A program to run, and the checks of its state.

    ``prepare`` runs before each start; ``health`` makes a check for each life: a child that fails it is stopped, killed
    when it does not stop, and restarted. ``port`` serves clients,
    ``ops_port`` operators, for our own processes. ``ready_s``: seconds without work after which a child that is not
    ready is given up, see ``standstill``.
    """

    name: str
    kind: str
    argv: Sequence[str]
    log: Path
    ready: Callable[[], Awaitable[bool]]
    prepare: Callable[[], Awaitable[None]] | None = None
    health: Callable[[], Check] | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: Path | None = None
    user: User | None = None
    stop_signal: int = signal.SIGTERM
    stop_s: float = 20.0
    ready_s: float = 90.0
    port: int | None = None
    ops_port: int | None = None


def end_with_parent(parent: int, number: int = signal.SIGKILL) -> None:
    """Let the kernel send ``number`` to this process when its parent ends (Linux, prctl(2))."""
    _libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:  # it ended before we asked
        os.kill(os.getpid(), number)


async def spawn(child: Child) -> asyncio.subprocess.Process:
    """Start the child, with its output appended to its log. Raises OSError."""
    rotate(child.log)
    with child.log.open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *child.argv, stdout=log, stderr=log, env=dict(child.env), cwd=child.cwd, **_bound_to_us(child.user)
        )


async def run_to_end(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    cwd: Path | str | None = None,
    user: User | None = None,
    on_line: Callable[[str], None] = lambda _: None,
) -> tuple[int, str]:
    """Run a helper; return its exit code and what it printed. It ends when this is cancelled, and with us.

    ``on_line`` gets each line as it comes.
    """
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=dict(env),
        cwd=cwd,
        limit=_LONGEST_LINE,
        **_bound_to_us(user),
    )
    assert process.stdout is not None
    printed: list[str] = []
    try:
        async for line in process.stdout:
            printed.append(line.decode(errors="replace"))
            on_line(printed[-1].rstrip())
        await process.wait()
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    assert process.returncode is not None
    return process.returncode, "".join(printed)


def _bound_to_us(user: User | None) -> dict[str, Any]:
    parent = os.getpid()
    # uvloop accepts none of these arguments, not even None.
    other = {} if user is None else {"user": user[0], "group": user[1], "extra_groups": []}
    return {
        **other,
        "stdin": asyncio.subprocess.DEVNULL,
        "start_new_session": True,
        # It runs after the change of user, which would clear it.
        "preexec_fn": lambda: end_with_parent(parent),
    }


@dataclass(slots=True)
class Liveness:
    """Check that a process answers on its operator port: false after so many checks in a row without an answer.

    A process that is stopped or whose event loop hangs answers nothing, and ends by no signal but SIGKILL.
    """

    ops_port: int
    most_silent: int = 12
    silent: int = 0

    async def __call__(self) -> bool:
        self.silent = 0 if await answers(self.ops_port, "/healthz") else self.silent + 1
        return self.silent < self.most_silent


async def answers(port: int, path: str | None = None, host: str = "127.0.0.1") -> bool:
    """Return whether something listens on the port; with a path, whether a GET is answered with 200."""
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                if path is None:
                    return True
                writer.write(_get(path))
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False


async def body_of(port: int, path: str) -> str | None:
    """Return the body with which a process on this machine answers a GET; None when it does not, or not with 200."""
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(_get(path))
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return None
    return body.decode(errors="replace") if b" 200 " in head.partition(b"\r\n")[0] else None


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
