"""Notification of relays about new outbox rows: that of this process, and the others for shards it does not own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import structlog

from domain.errors import Unavailable
from domain.outbox import Owed
from ingest.relay import Relay
from schemas.codec import encode
from schemas.events import MessageCreated
from schemas.ids import outbox_shard

_log = structlog.get_logger()


@dataclass(slots=True)
class RelayNotifier:
    """Wakes relays after a commit. Commits during an announcement share the next one."""

    relay: Relay
    announce: Callable[[], Awaitable[None]]
    """Tells the relays of other processes. May raise Unavailable."""
    _announcing: asyncio.Task[None] | None = None
    _again: bool = field(default=False)

    def on_committed(self, events: Sequence[MessageCreated]) -> None:
        """Have the events of these messages published, which were just committed."""
        mine = [event for event in events if self.relay.owns(outbox_shard(event.conversation_id))]
        self.relay.publish_soon([Owed(e.conversation_id, e.seq, e.TOPIC, encode(e), e.event_id) for e in mine])
        if len(mine) < len(events):
            self._announce_soon()

    def on_change(self, conversation_id: str) -> None:
        """Wake the relay of this conversation, which has a new event."""
        self.relay.wake()
        if not self.relay.owns(outbox_shard(conversation_id)):
            self._announce_soon()

    def _announce_soon(self) -> None:
        self._again = True
        if self._announcing is None or self._announcing.done():
            self._announcing = asyncio.create_task(self._announce())

    async def _announce(self) -> None:
        while self._again:
            self._again = False
            try:
                await self.announce()
            except Unavailable as exc:
                # Not repeated: the safety poll finds the rows all the same.
                _log.debug("announcement_failed", owned_shards=len(self.relay.shards), reason=str(exc))
