"""Who is told of new outbox rows: the relay of this process, or, for shards it does not own, all others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from domain.drafts import Draft
from domain.errors import Unavailable
from ingest.relay import Relay
from schemas.ids import outbox_shard


@dataclass(slots=True)
class Wakes:
    """Wakes relays after a commit. Announcements gather while one is under way."""

    relay: Relay
    announce: Callable[[], Awaitable[None]]
    _announcing: asyncio.Task[None] | None = None
    _again: bool = field(default=False)

    def stored(self, drafts: Sequence[Draft]) -> None:
        """These drafts were committed."""
        self._wake({draft.conversation_id for draft in drafts})

    def changed(self, conversation_id: str) -> None:
        """This conversation has a new event."""
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
            with suppress(Unavailable):  # the safety poll finds the rows all the same
                await self.announce()
