"""The relay: outbox rows into Kafka, each conversation in seq order, never one skipped.

Rows are chosen by state (not yet published), so a late commit cannot be overlooked. They are marked only after
the broker's acknowledgement; a crash in between publishes them again, which readers drop by event id. What the
broker loses afterwards is published again too, while it is retained.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field

import structlog

from domain.errors import Unavailable
from domain.event_log import EventLog
from domain.outbox import KEEP_PUBLISHED_H, Outbox, Owed
from ingest.loss_detection import IDLE_S, Continuity
from schemas.codec import Record, headers

_log = structlog.get_logger()

PRODUCER = "millrace/relay"
BATCH = 500
SAFETY_POLL_S = 0.5
GATHER_S = 0.02
"""From one batch to the next when rows come faster than they are published: few large batches cost the broker and all
readers much less. A row that comes alone is published at once."""
LISTEN_AGAIN_S = 1.0
PROBE_S = 0.5
CLAIM_EVERY_S = 2.0
PRUNE = 5_000
PRUNE_EVERY_S, PRUNE_MORE_S = 600.0, 1.0
"""Old rows are deleted a few at a time, and so often that they do not grow in number."""
MIN_BACKOFF_S, MAX_BACKOFF_S = 0.1, 2.0


@dataclass(slots=True)
class Relay:
    """Publishes what the shards it owns still owe. Many relays may run; each shard has one owner."""

    open_outbox: Callable[[], AbstractAsyncContextManager[Outbox]]
    log: EventLog
    continuity: Continuity
    published: Callable[[int], None] = lambda _: None
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _shards: frozenset[int] = frozenset()

    def wake(self) -> None:
        """There are new rows."""
        self._woken.set()

    def owns(self, shard: int) -> bool:
        """Whether a wake-up here suffices for rows of this shard."""
        return shard in self._shards

    async def run(self) -> None:
        """Publish for ever. An outage of the store or the broker is waited out."""
        clock, backoff = asyncio.get_running_loop().time, MIN_BACKOFF_S
        while True:
            began = clock()
            try:
                async with self.open_outbox() as outbox:
                    await self._serve(outbox)
            except Unavailable as exc:
                _log.warning("relay waits", reason=str(exc), seconds=round(backoff, 2))
            finally:
                self._shards = frozenset()
            await asyncio.sleep(backoff * random.uniform(0.5, 1.5))
            lasted = clock() - began > MAX_BACKOFF_S * 2
            backoff = MIN_BACKOFF_S if lasted else min(backoff * 2, MAX_BACKOFF_S)

    async def _serve(self, outbox: Outbox) -> None:
        clock = asyncio.get_running_loop().time
        claim_at = prune_at = clock()
        self.continuity.begin()
        while True:
            if clock() >= claim_at:
                claim_at = clock() + CLAIM_EVERY_S
                await outbox.claim()
                self._shards = outbox.shards
            if clock() >= prune_at:
                pruned = await outbox.prune(KEEP_PUBLISHED_H, PRUNE)
                prune_at = clock() + (PRUNE_EVERY_S if pruned < PRUNE else PRUNE_MORE_S)
            self._woken.clear()
            began = clock()
            published = await self.publish(outbox)
            if published > 1:
                await asyncio.sleep(max(0.0, began + GATHER_S - clock()))
            elif not published:
                await self.continuity.sure(outbox, IDLE_S)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), SAFETY_POLL_S)

    async def publish(self, outbox: Outbox) -> int:
        """One batch: read, append, mark. Raises Unavailable; then nothing is marked and all is tried again.

        Nothing is marked either when the log turns out to have lost something: it is owed again with all the rest.
        """
        await self.continuity.sure(outbox)
        rows = await outbox.unpublished(BATCH)
        if rows:
            ends = await self._append([_record(row) for row in rows])
            if await self.continuity.acknowledged(outbox):
                await outbox.mark(rows, ends)
                self.published(len(rows))
        return len(rows)

    async def _append(self, records: Sequence[Record]) -> Mapping[str, int]:
        """Append, while the broker answers: what outlives a broker would go to one that may have come back empty."""
        appending = asyncio.ensure_future(self.log.append(records))
        try:
            while not (await asyncio.wait({appending}, timeout=PROBE_S))[0]:
                await self.continuity.positions.read()
            return appending.result()
        finally:
            if not appending.done():
                appending.cancel()
                await asyncio.wait({appending})


def _record(row: Owed) -> Record:
    about = headers(row.topic, row.event_id, PRODUCER)
    return Record(row.topic, row.conversation_id.encode(), row.value, about)


async def wake_on_announcements(relay: Relay, announcements: Callable[[], AsyncIterator[None]]) -> None:
    """Wake the relay when another process has written rows; the safety poll covers what is missed."""
    while True:
        with suppress(Unavailable):
            async for _ in announcements():
                relay.wake()
        await asyncio.sleep(LISTEN_AGAIN_S)
