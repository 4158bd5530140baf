"""Receipts on their way to Kafka: merged, at most one record a second for each conversation, member and device."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

import structlog

from domain.errors import Unavailable
from domain.event_log import EventLog
from schemas.clock import now
from schemas.codec import record
from schemas.events import ReceiptRecorded

_log = structlog.get_logger()

EVERY_S = 1.0
GATHER_S = 0.05
"""Receipts of all members that come so soon after each other are told together."""
PRODUCER = "millrace/gateway"

Key: TypeAlias = tuple[str, str, str]
"""(conversation, user, device)."""


@dataclass(slots=True)
class Merged:
    """Watermarks that wait to be told, and when each device was told of last. Pure."""

    waiting: dict[Key, tuple[int, int]] = field(default_factory=dict)
    told_at: dict[Key, float] = field(default_factory=dict)

    def note(self, key: Key, delivered: int, read: int) -> None:
        """A receipt; the furthest of each kind counts, and read implies delivered."""
        had_delivered, had_read = self.waiting.get(key, (0, 0))
        read = max(read, had_read)
        self.waiting[key] = (max(delivered, had_delivered, read), read)

    def due(self, at: float, *, all_of_them: bool = False) -> dict[Key, tuple[int, int]]:
        """Those that may be told now: the first at once, then one a second. They wait no more."""
        due = {
            key: seqs
            for key, seqs in self.waiting.items()
            if all_of_them or at - self.told_at.get(key, -EVERY_S) >= EVERY_S
        }
        for key in due:
            del self.waiting[key]
            self.told_at[key] = at
        if len(self.told_at) > 10_000:
            self.told_at = {key: told for key, told in self.told_at.items() if at - told < EVERY_S}
        return due

    def put_back(self, failed: dict[Key, tuple[int, int]]) -> None:
        """They could not be told; what came meanwhile is further."""
        for key, (delivered, read) in failed.items():
            self.note(key, delivered, read)


@dataclass(slots=True)
class Receipts:
    """Tells Kafka. A lost receipt is healed by the next, but none is lost here while the process lives."""

    log: EventLog
    _merged: Merged = field(default_factory=Merged)
    _woken: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, conversation_id: str, user_id: str, device: str, *, delivered: int = 0, read: int = 0) -> None:
        """A member's device has got so far."""
        self._merged.note((conversation_id, user_id, device), delivered, read)
        self._woken.set()

    async def run(self) -> None:
        """Tell what is due, for ever."""
        clock = asyncio.get_running_loop().time
        while True:
            await self._woken.wait()
            self._woken.clear()
            await self._tell(self._merged.due(clock()))
            await asyncio.sleep(GATHER_S)
            if self._merged.waiting:
                self._woken.set()

    async def flush(self) -> None:
        """Tell everything that waits, before the end."""
        await self._tell(self._merged.due(0.0, all_of_them=True))

    async def _tell(self, due: dict[Key, tuple[int, int]]) -> None:
        if not due:
            return
        try:
            await self.log.append([record(event, producer=PRODUCER) for event in _events(due.items())])
        except Unavailable:
            self._merged.put_back(due)
            _log.warning("receipts wait", count=len(due))
        except asyncio.CancelledError:  # the node ends, and flushes
            self._merged.put_back(due)
            raise


def _events(marks: Iterable[tuple[Key, tuple[int, int]]]) -> list[ReceiptRecorded]:
    at = now()
    return [
        ReceiptRecorded(
            conversation_id=conversation, user_id=user, delivered_seq=delivered, read_seq=read, at=at, device=device
        )
        for (conversation, user, device), (delivered, read) in marks
    ]
