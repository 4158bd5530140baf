"""Faults of processes: killed, stopped, terminated."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from stack.processes import family
from verify.faults.target import Target


def send(pids: Iterable[int], number: int) -> None:
    """Send a signal to all processes that still live."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


@dataclass(slots=True)
class Kill:
    """Kills a process and its children with SIGKILL; the supervisor starts it again."""

    role: str
    recover_s: float = 30.0
    name: str = field(init=False)
    lasts_s: float = 0.0
    single_process: bool = True

    def __post_init__(self) -> None:
        self.name = f"kill-{self.role}"

    @property
    def targets(self) -> tuple[str, ...]:
        return (self.role,)

    async def inject(self, target: Target) -> None:
        _, pid = target.choose(self.role)
        send(family(pid), signal.SIGKILL)

    async def heal(self, target: Target) -> None:
        """Do nothing: the supervisor starts the process again."""


@dataclass(slots=True)
class Terminate:
    """Sends SIGTERM to a process: it finishes its work and exits, and the supervisor starts it again."""

    role: str
    recover_s: float = 60.0
    name: str = field(init=False)
    lasts_s: float = 0.0
    single_process: bool = True

    def __post_init__(self) -> None:
        self.name = f"end-{self.role}"

    @property
    def targets(self) -> tuple[str, ...]:
        return (self.role,)

    async def inject(self, target: Target) -> None:
        _, pid = target.choose(self.role)
        send([pid], signal.SIGTERM)

    async def heal(self, target: Target) -> None:
        """Do nothing: the supervisor starts the process again."""


@dataclass(slots=True)
class Pause:
    """Stops a process and its children with SIGSTOP: connections stay open, and nothing is answered."""

    role: str
    lasts_s: float = 10.0
    recover_s: float = 45.0
    name: str = field(init=False)
    single_process: bool = True
    _stopped: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name = f"pause-{self.role}"

    @property
    def targets(self) -> tuple[str, ...]:
        return (self.role,)

    async def inject(self, target: Target) -> None:
        _, pid = target.choose(self.role)
        send([pid], signal.SIGSTOP)  # first, so that it makes no more children
        self._stopped = family(pid)
        send(self._stopped, signal.SIGSTOP)

    async def heal(self, target: Target) -> None:
        send(reversed(self._stopped), signal.SIGCONT)
        self._stopped = []
