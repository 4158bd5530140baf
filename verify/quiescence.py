"""Quiescence: once all is sent and healed, everybody has everything within a bounded time."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from adapters.kafka.admin import groups_lag
from domain.errors import Unavailable
from runtime.kafka_settings import Kafka
from schemas.topics import groups, load
from verify.final_state import Store
from verify.history import History
from verify.receivers import Device
from verify.rules.notifications import is_collapsed, owed

QUIET_S = 30.0
"""The bound, from the last healed fault and the last message."""
_SAY_EVERY_S = 2.0
_STUCK_S = 20.0


def is_over(waited_s: float, still_s: float) -> bool:
    """Return True to give up: never within the bound, and soon after it when nothing moves. Pure."""
    return waited_s >= 2 * QUIET_S or (waited_s >= QUIET_S and still_s >= _STUCK_S)


@dataclass(frozen=True, slots=True)
class Quiescence:
    """Waits for ``devices``, all of members, and for the store. ``lags`` returns the groups that are behind."""

    history: History
    store: Store
    devices: Sequence[Device]
    lags: Callable[[], Awaitable[list[str]]]
    say: Callable[[str], None]

    async def wait(self) -> None:
        """Wait; record how long it took, or what still waits when time is up."""
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
        """Return the first kind of work that is not done; the costly checks come last."""
        try:
            waiting = await self._undelivered() or await self._unmarked()
            waiting = waiting or await self._undecided() or await self._unnotified()
            if not waiting:
                for device in self.devices:
                    device.fall_silent()
            return waiting or await self.lags() or await self._undecided()  # a record may have been under way
        except Unavailable as exc:
            return [str(exc)]

    async def _undelivered(self) -> list[str]:
        heads = await self.store.heads()
        present = [d for d in self.devices if not d.is_away]
        behind = [d for d in present if d.cursor < heads[d.room.conversation_id]]
        unpublished, pending = await self.store.owed()
        return [
            *([f"{unpublished} outbox rows"] if unpublished else []),
            *([f"{pending} pending messages"] if pending else []),
            *(f"{d.screen.spec.user} ({d.screen.spec.kind}) at {d.cursor}" for d in behind),
        ]

    async def _unmarked(self) -> list[str]:
        """Return the receipts of devices that are not stored yet."""
        devices = await self.store.devices()
        rows = await self.store.marks() if devices is None else devices
        stored = {tuple(place): (delivered, read) for *place, delivered, read in rows}
        waiting = []
        for d in (d for d in self.devices if not d.is_away):
            told = d.screen.told
            place = _place(d) if devices is None else (*_place(d), d.screen.spec.device)
            delivered, read = stored.get(place, (0, 0))
            if delivered < d.cursor and d.screen.seqs:
                waiting.append(f"the receipt of {d.screen.spec.user} for {d.cursor}")
            if told is not None and read < told.read_seq:
                waiting.append(f"the word of {d.screen.spec.user} that {told.read_seq} was read")
        return waiting

    async def _undecided(self) -> list[str]:
        count = await self.store.undecided()
        return [f"decisions about {count} messages"] if count else []

    async def _unnotified(self) -> list[str]:
        """Return the members who are not notified yet of a message that reached no device of theirs."""
        notified: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        for conversation, _, user, message_id, *_ in await self.store.notifications():
            notified[conversation, user].add(message_id)
        delivered = {(conversation, user): seq for conversation, user, seq, _ in await self.store.marks()}
        waiting = []
        for room in self.history.rooms:
            accepted = [(s.accepted.message_id, s.accepted.seq, s.send.sender) for s in room.sendings if s.accepted]
            for user in sorted(room.workload.away):
                place = (room.conversation_id, user)
                missing = set(owed(accepted, user, delivered.get(place, 0))) - notified[place]
                if missing and not (is_collapsed(room) and notified[place]):
                    waiting.append(f"notifications of {user}: {len(missing)}")
        return waiting


def _place(device: Device) -> tuple[str, str]:
    return device.room.conversation_id, device.screen.spec.user


async def lags_of(kafka: Kafka) -> list[str]:
    """Return the groups that are behind, with their lag. Raises Unavailable."""
    reads = {name: tuple(t.name for t in load() if name in t.readers) for name in groups()}
    lags = {state.group: sum(state.lag.values()) for state in await groups_lag(kafka, reads)}
    return [f"{lag} records of {group}" for group, lag in lags.items() if lag]


async def no_lags() -> list[str]:
    """Return nothing: the topics cannot be seen from here."""
    return []
