"""Coming to rest: when everything is healed and sent, everybody gets everything, within a bounded time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from adapters.kafka.admin import groups_lag
from domain.errors import Unavailable
from schemas.topics import groups, load
from verify.final_state import Store
from verify.history import History
from verify.receivers import Device
from verify.workload import DeviceKind

QUIET_S = 30.0
"""Within this time after the last fault was healed and the last message was sent everybody has everything."""
_SAY_EVERY_S = 2.0
_STUCK_S = 20.0


def is_over(waited_s: float, still_s: float) -> bool:
    """Whether to give up: never within the time that is promised, and soon after it when nothing moves. Pure."""
    return waited_s >= 2 * QUIET_S or (waited_s >= QUIET_S and still_s >= _STUCK_S)


@dataclass(frozen=True, slots=True)
class Quiescence:
    """What there is to wait for: all ``devices`` are of members. ``lags`` names groups that have records to work on."""

    history: History
    store: Store
    devices: Sequence[Device]
    lags: Callable[[], Awaitable[list[str]]]
    say: Callable[[str], None]

    async def wait(self) -> None:
        """Note how long it took, or what still waited when it was given up."""
        began = said_at = moved_at = time.monotonic()
        while not is_over(time.monotonic() - began, time.monotonic() - moved_at):
            before, self.history.waiting = self.history.waiting, await self._waiting()
            moved_at = time.monotonic() if self.history.waiting != before else moved_at
            took = time.monotonic() - began
            if not self.history.waiting:
                self.history.quiet_s = took if took <= QUIET_S else None
                self.history.waiting = [] if took <= QUIET_S else [f"it took {took:.0f} s"]
                return
            if time.monotonic() > said_at + _SAY_EVERY_S:
                said_at = time.monotonic()
                self.say(f"waiting for {', '.join(self.history.waiting[:3])}")
            await asyncio.sleep(0.2)

    async def _waiting(self) -> list[str]:
        """The first kind of thing that is not done; the costly ones are asked last."""
        try:
            waiting = await self._undelivered() or await self._unmarked()
            if not waiting:
                for device in self.devices:
                    device.fall_silent()
            return waiting or await self.lags()
        except Unavailable as exc:
            return [str(exc)]

    async def _undelivered(self) -> list[str]:
        heads = await self.store.heads()
        behind = [d for d in self.devices if d.cursor < heads[d.room.conversation_id]]
        unpublished, pending = await self.store.owed()
        return [
            *([f"{unpublished} outbox rows"] if unpublished else []),
            *([f"{pending} pending messages"] if pending else []),
            *(f"{d.screen.spec.user} ({d.screen.spec.kind}) at {d.cursor}" for d in behind),
        ]

    async def _unmarked(self) -> list[str]:
        """Members whose last receipt of each kind has not arrived."""
        marks = {(conversation, user): told for conversation, user, *told in await self.store.marks()}
        waiting = []
        for d in self.devices:
            if d.screen.spec.kind is not DeviceKind.STEADY or not d.screen.seqs:
                continue
            user = d.screen.spec.user
            delivered, read = marks.get((d.room.conversation_id, user), (0, 0))
            if delivered < d.cursor:
                waiting.append(f"the receipt of {user} for {d.cursor}")
            if read < d.subscription.sync.read:
                waiting.append(f"the word of {user} that {d.subscription.sync.read} was read")
        return waiting


async def lags_of(kafka: str) -> list[str]:
    """The groups that are behind. Raises Unavailable."""
    reads = {name: tuple(t.name for t in load() if name in t.readers) for name in groups()}
    lags = {state.group: sum(state.lag.values()) for state in await groups_lag(kafka, reads)}
    return [f"{lag} records of {group}" for group, lag in lags.items() if lag]


async def no_lags() -> list[str]:
    """Where the topics are not to be seen."""
    return []
