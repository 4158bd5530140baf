"""One child process: it never outlives its parent, and Ctrl-C in a terminal does not reach it."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """What to run, and how to know that it is ready. ``ops_port`` is that of our own processes."""

    name: str
    kind: str
    argv: Sequence[str]
    log: Path
    ready: Callable[[], Awaitable[bool]]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    user: tuple[int, int] | None = None
    stop_signal: int = signal.SIGTERM
    stop_s: float = 20.0
    ready_s: float = 90.0
    ops_port: int | None = None


def end_with_parent(parent: int, number: int = signal.SIGKILL) -> None:
    """From now on this process gets ``number`` when its parent ends (Linux, prctl(2))."""
    _libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:  # it ended before we asked
        os.kill(os.getpid(), number)


async def spawn(child: Child) -> asyncio.subprocess.Process:
    """Start the child, with its output appended to its log."""
    parent = os.getpid()
    uid, gid = child.user or (None, None)
    with child.log.open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *child.argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=dict(child.env),
            user=uid,
            group=gid,
            extra_groups=None if uid is None else [],
            start_new_session=True,
            # After the change of user, which would clear it.
            preexec_fn=lambda: end_with_parent(parent),
        )


async def answers(port: int, path: str | None = None) -> bool:
    """Whether something listens on the port; with a path, whether it answers 200 there."""
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                if path is None:
                    return True
                writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
