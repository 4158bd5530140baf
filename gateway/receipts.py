"""Receipts on their way to Kafka: merged, for each conversation, member and device.

Of each kind (delivered, read) the first goes at once, and then one record a second.
"""

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
"""Receipts of all members that come within this time are sent together."""
PRODUCER = "millrace/gateway"

Key: TypeAlias = tuple[str, str, str]
"""(conversation, user, device)."""


@dataclass(slots=True)
class ReceiptBuffer:
    """Watermarks that wait to be sent, and when the last of each device and kind was. Pure."""

    waiting: dict[Key, tuple[int, int]] = field(default_factory=dict)
    sent_at: dict[tuple[Key, bool], float] = field(default_factory=dict)
    """By key, and whether it was a read receipt; these count as both kinds, since read implies delivered."""

    def note(self, key: Key, delivered: int, read: int) -> None:
        """Merge a receipt: the highest of each kind counts, and read implies delivered."""
        had_delivered, had_read = self.waiting.get(key, (0, 0))
        read = max(read, had_read)
        self.waiting[key] = (max(delivered, had_delivered, read), read)

    def due(self, at: float, *, all_of_them: bool = False) -> dict[Key, tuple[int, int]]:
        """Remove and return those that may be sent now: the first of a device and kind at once, then one a second."""
        due = {
            key: (delivered, read)
            for key, (delivered, read) in self.waiting.items()
            if all_of_them or at - self.sent_at.get((key, read > 0), -EVERY_S) >= EVERY_S
        }
        for key, (_, read) in due.items():
            del self.waiting[key]
            self.sent_at.update({(key, kind): at for kind in ((False, True) if read else (False,))})
        if len(self.sent_at) > 20_000:
            self.sent_at = {kind: sent for kind, sent in self.sent_at.items() if at - sent < EVERY_S}
        return due

    def put_back(self, failed: dict[Key, tuple[int, int]]) -> None:
        """Take back what could not be sent; what came meanwhile goes further."""
        for key, (delivered, read) in failed.items():
            self.note(key, delivered, read)


@dataclass(slots=True)
class Receipts:
    """Sends receipts to Kafka. The next one heals a lost one, but none is lost here while the process lives."""

    log: EventLog
    _buffer: ReceiptBuffer = field(default_factory=ReceiptBuffer)
    _woken: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, conversation_id: str, user_id: str, device: str, *, delivered: int = 0, read: int = 0) -> None:
        """Note how far a member's device has got."""
        self._buffer.note((conversation_id, user_id, device), delivered, read)
        self._woken.set()

    async def run(self) -> None:
        """Send what is due, for ever."""
        clock = asyncio.get_running_loop().time
        while True:
            await self._woken.wait()
            self._woken.clear()
            await self._send(self._buffer.due(clock()))
            await asyncio.sleep(GATHER_S)
            if self._buffer.waiting:
                self._woken.set()

    async def flush(self) -> None:
        """Send everything that waits, before the end."""
        await self._send(self._buffer.due(0.0, all_of_them=True))

    async def _send(self, due: dict[Key, tuple[int, int]]) -> None:
        if not due:
            return
        try:
            await self.log.append([record(event, producer=PRODUCER) for event in _events(due.items())])
        except Unavailable:
            self._buffer.put_back(due)
            _log.warning("receipts_wait", count=len(due), reason="kafka does not answer")
        except asyncio.CancelledError:  # the node ends, and flushes
            self._buffer.put_back(due)
            raise
        else:
            _log.debug("receipts_sent", count=len(due))


def _events(marks: Iterable[tuple[Key, tuple[int, int]]]) -> list[ReceiptRecorded]:
    at = now()
    return [
        ReceiptRecorded(
            conversation_id=conversation, user_id=user, delivered_seq=delivered, read_seq=read, at=at, device=device
        )
        for (conversation, user, device), (delivered, read) in marks
    ]
