"""Notification of relays about new outbox rows: of this process, and of the others for shards it does not own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import structlog

from domain.drafts import Draft
from domain.errors import Unavailable
from ingest.relay import Relay
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

    def on_committed(self, drafts: Sequence[Draft]) -> None:
        """Wake the relays of these drafts, which were just committed."""
        self._wake({draft.conversation_id for draft in drafts})

    def on_change(self, conversation_id: str) -> None:
        """Wake the relay of this conversation, which has a new event."""
        self._wake({conversation_id})

    def _wake(self, conversation_ids: set[str]) -> None:
        self.relay.wake()
        if all(self.relay.owns(outbox_shard(id_)) for id_ in conversation_ids):
            return
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
