"""Faults of processes: killed once or again and again, stopped, terminated, reloaded."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from runtime.tasks import end
from stack.processes import family, lives
from verify.faults.fault import Fault
from verify.faults.target import NotPossible, Target

_LOOK_S = 0.02
_DIES_S = 5.0
ENDS_S = 40.0
"""A process obeys SIGTERM within this time; the slowest are brokers."""
_STOPPED_S = 2.0
_TIMES = (5, 10)


def send(pids: Iterable[int], number: int) -> None:
    """Send a signal to all processes that still live."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


async def comes_true(condition: Callable[[], bool], within_s: float) -> bool:
    """Wait until the condition holds; return False when it does not in time."""
    until = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > until:
            return False
        await asyncio.sleep(_LOOK_S)
    return True


async def kill(pids: Iterable[int]) -> int:
    """Kill these processes; return how many have ended by it."""
    living = [pid for pid in pids if lives(pid)]
    send(living, signal.SIGKILL)
    await comes_true(lambda: not any(map(lives, living)), _DIES_S)
    return sum(not lives(pid) for pid in living)


@dataclass(slots=True, kw_only=True)
class _OfRole(Fault):
    role: str


@dataclass(slots=True, kw_only=True)
class Kill(_OfRole):
    """Kills a process and its children with SIGKILL; the supervisor starts it again."""

    recover_s: float = 20.0
    single_process: bool = True

    def __post_init__(self) -> None:
        self.name, self.targets = f"kill-{self.role}", (self.role,)
        self.needs = self.role
        self.summary = f"kills a process {self.role} with SIGKILL"

    async def inject(self, target: Target) -> None:
        name, pid = target.choose(self.role)
        if await kill(family(pid)):
            self.evidence = f"{name}, process {pid}, ended"


@dataclass(slots=True, kw_only=True)
class KillAgain(_OfRole):
    """Kills one process 5 to 10 times: each time the supervisor has started it, after a part of a second or some."""

    lasts_s: float = 50.0
    recover_s: float = 25.0
    pause_s: tuple[float, float] = (0.1, 4.0)
    _killing: asyncio.Task[None] | None = None
    _killed: int = 0

    def __post_init__(self) -> None:
        self.name, self.targets = f"kill-{self.role}-again", (self.role,)
        self.needs = self.role
        self.summary = f"kills a process {self.role} with SIGKILL 5 to 10 times, each time it is back"

    async def inject(self, target: Target) -> None:
        name, _ = target.choose(self.role)
        self._killing = asyncio.create_task(self._kill(target, name, target.rng.randint(*_TIMES)))

    async def _kill(self, target: Target, name: str, times: int) -> None:
        before: int | None = None
        while self._killed < times:
            pid = target.pid_of(name)
            if pid is None or pid == before:
                await asyncio.sleep(_LOOK_S)
                continue
            if before is not None:
                await asyncio.sleep(target.rng.uniform(*self.pause_s))
            self._killed += bool(await kill(family(pid)))
            self.evidence, before = f"{name} ended {self._killed} times", pid

    async def heal(self, target: Target) -> None:
        if self._killing is not None:
            await end(self._killing)
            self._killing = None


@dataclass(slots=True, kw_only=True)
class Blackout(Fault):
    """Kills all processes of the stack at once, servers too; the supervisor starts them again."""

    recover_s: float = 40.0

    def __post_init__(self) -> None:
        self.name = "blackout"
        self.summary = "kills all processes of the stack at once with SIGKILL, servers too"

    async def inject(self, target: Target) -> None:
        living = [process.pid for process in target.processes() if process.pid is not None]
        killed = await kill([member for pid in living for member in family(pid)])
        if killed:
            self.evidence = f"{killed} processes of {len(living)} parts ended"


@dataclass(slots=True, kw_only=True)
class Terminate(_OfRole):
    """Sends SIGTERM to a process: it finishes its work and exits, and the supervisor starts it again."""

    recover_s: float = 30.0
    single_process: bool = True

    def __post_init__(self) -> None:
        self.name, self.targets = f"end-{self.role}", (self.role,)
        self.needs = self.role
        self.summary = f"tells a process {self.role} to end, by SIGTERM"

    async def inject(self, target: Target) -> None:
        name, pid = target.choose(self.role)
        send([pid], signal.SIGTERM)
        began = time.monotonic()
        if await comes_true(lambda: not lives(pid), ENDS_S):
            self.evidence = f"{name}, process {pid}, ended after {time.monotonic() - began:.1f} s"


@dataclass(slots=True, kw_only=True)
class Pause(_OfRole):
    """Stops a process and its children with SIGSTOP: connections stay open, and nothing is answered."""

    lasts_s: float = 10.0
    recover_s: float = 25.0
    single_process: bool = True
    suffix: str = ""
    _stopped: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name, self.targets = f"pause-{self.role}{self.suffix}", (self.role,)
        self.needs = self.role
        self.summary = f"stops a process {self.role} by SIGSTOP for {self.lasts_s:.0f} s"

    async def inject(self, target: Target) -> None:
        name, pid = target.choose(self.role)
        send([pid], signal.SIGSTOP)  # first, so that it makes no more children
        self._stopped = family(pid)
        send(self._stopped, signal.SIGSTOP)
        if await comes_true(lambda: all(_state(each) == "T" for each in self._stopped), _STOPPED_S):
            self.evidence = f"{name}, process {pid}, stood still"

    async def heal(self, target: Target) -> None:
        send(reversed(self._stopped), signal.SIGCONT)
        self._stopped = []


def _state(pid: int) -> str:
    """Return the state of a process as proc(5) has it; empty when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


@dataclass(slots=True, kw_only=True)
class Reload(_OfRole):
    """Reloads a server's configuration by SIGUSR2: new workers take over, old ones end."""

    recover_s: float = 45.0  # old sockets may stay for FRONT_HARD_STOP

    def __post_init__(self) -> None:
        self.name, self.targets = f"reload-{self.role}", (self.role,)
        self.needs = self.role
        self.summary = f"reloads {self.role} by SIGUSR2; old sockets end after 30 s"

    async def inject(self, target: Target) -> None:
        name, pid = target.choose(self.role)
        before = set(family(pid))
        if before == {pid}:
            raise NotPossible(f"{name} has no workers to replace")
        send([pid], signal.SIGUSR2)
        if await comes_true(lambda: bool(set(family(pid)) - before), ENDS_S):
            self.evidence = f"{name}, process {pid}, has new workers"
