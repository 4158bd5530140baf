"""Faults by users: one hostile user does harm within what the front doors let through."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

from verify.attacks import ATTACKS
from verify.faults.target import NotPossible, Target


@dataclass(slots=True)
class Hostile:
    """Runs an attack as long as it lasts."""

    attack: str
    lasts_s: float = 12.0
    recover_s: float = 20.0
    name: str = field(init=False)
    single_process: bool = False
    targets: tuple[str, ...] = ("front door",)
    _running: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.name = f"hostile-{self.attack}"

    async def inject(self, target: Target) -> None:
        if target.doors is None:
            raise NotPossible("the front doors of the stack are not known")
        self._running = asyncio.create_task(ATTACKS[self.attack](target.doors))

    async def heal(self, target: Target) -> None:
        if self._running is not None:
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await self._running
            self._running = None
