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
Check: TypeAlias = Callable[[], Awaitable[str | None]]
"""Returns what is wrong with a child, in words; None while nothing is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A program to run, and the checks of its state.

    ``prepare`` runs before each start, ``rejoin`` after each but the first, once the child is ready. ``alive`` returns
    whether the child answers at all: one that is silent for long is killed, see ``stack.silence``. ``health`` makes a
    check for each life: a child that fails it is stopped, and killed when it does not stop. Either is restarted.
    ``port`` serves clients, ``ops_port`` operators, for our own processes. ``ready_s``: seconds without work after
    which a child that is not ready is given up, see ``standstill``.
    """

    name: str
    kind: str
    argv: Sequence[str]
    log: Path
    ready: Callable[[], Awaitable[bool]]
    prepare: Callable[[], Awaitable[None]] | None = None
    rejoin: Callable[[], Awaitable[None]] | None = None
    alive: Callable[[], Awaitable[bool]] | None = None
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
    child.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # somebody may have removed it
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
