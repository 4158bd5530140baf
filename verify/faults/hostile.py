"""Faults by users: one hostile user does harm within what the front doors let through."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from verify.attacks import ATTACKS
from verify.faults.fault import Fault
from verify.faults.target import NotPossible, Target


@dataclass(slots=True, kw_only=True)
class Hostile(Fault):
    """Runs an attack as long as it lasts."""

    attack: str
    targets: tuple[str, ...] = ("front door",)
    lasts_s: float = 12.0
    _running: asyncio.Task[None] | None = None
    _served: int = 0

    def __post_init__(self) -> None:
        self.name = f"hostile-{self.attack}"
        purpose = (ATTACKS[self.attack].__doc__ or "").partition("\n")[0].strip(".")
        self.summary = f"a hostile user, who would {purpose[:1].lower()}{purpose[1:]}"

    async def inject(self, target: Target) -> None:
        if target.doors is None:
            raise NotPossible("the front doors of the stack are not known")
        self._served = target.doors.tally.served
        self._running = asyncio.create_task(ATTACKS[self.attack](target.doors))

    async def heal(self, target: Target) -> None:
        if self._running is None or target.doors is None:
            return
        running, self._running = self._running, None
        running.cancel()
        await asyncio.wait({running})
        if not running.cancelled():
            running.result()
        if served := target.doors.tally.served - self._served:
            self.evidence = f"{served} connections and answers"
