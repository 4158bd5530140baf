"""Faults of processes: killed, stopped, told to end."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from stack.processes import family
from verify.faults.target import World


def send(pids: Iterable[int], number: int) -> None:
    """A signal to all that still live."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


@dataclass(slots=True)
class Kill:
    """``kill -9`` of a process and its children; its supervisor starts it again."""

    target: str
    recover_s: float = 30.0
    name: str = field(init=False)
    lasts_s: float = 0.0
    single_process: bool = True

    def __post_init__(self) -> None:
        self.name = f"kill-{self.target}"

    @property
    def targets(self) -> tuple[str, ...]:
        return (self.target,)

    async def inject(self, world: World) -> None:
        _, pid = world.choose(self.target)
        send(family(pid), signal.SIGKILL)

    async def heal(self, world: World) -> None:
        """Nothing: a supervisor does."""


@dataclass(slots=True)
class End:
    """SIGTERM to one process: it finishes what it has, leaves, and is started again."""

    target: str
    recover_s: float = 60.0
    name: str = field(init=False)
    lasts_s: float = 0.0
    single_process: bool = True

    def __post_init__(self) -> None:
        self.name = f"end-{self.target}"

    @property
    def targets(self) -> tuple[str, ...]:
        return (self.target,)

    async def inject(self, world: World) -> None:
        _, pid = world.choose(self.target)
        send([pid], signal.SIGTERM)

    async def heal(self, world: World) -> None:
        """Nothing: a supervisor does."""


@dataclass(slots=True)
class Pause:
    """SIGSTOP of a process and its children: it holds its connections and answers nothing."""

    target: str
    lasts_s: float = 10.0
    recover_s: float = 45.0
    name: str = field(init=False)
    single_process: bool = True
    _stopped: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name = f"pause-{self.target}"

    @property
    def targets(self) -> tuple[str, ...]:
        return (self.target,)

    async def inject(self, world: World) -> None:
        _, pid = world.choose(self.target)
        send([pid], signal.SIGSTOP)  # first, so that it makes no more children
        self._stopped = family(pid)
        send(self._stopped, signal.SIGSTOP)

    async def heal(self, world: World) -> None:
        send(reversed(self._stopped), signal.SIGCONT)
        self._stopped = []
