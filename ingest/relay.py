"""Relay of outbox rows to Kafka: each conversation in seq order, no row skipped.

Rows are chosen by state (not yet published), so a late commit cannot be overlooked. They are marked only after
the broker's acknowledgement; a crash in between publishes them again, which readers drop by event id. Records that the
broker loses afterwards are published again too, while their rows are retained.
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
from domain.outbox import Outbox, Owed, StoreBehind
from ingest.loss_detection import IDLE_S, LossDetector
from ingest.store_check import StoreCheck
from runtime.tasks import end
from schemas.codec import Record, headers

_log = structlog.get_logger()

PRODUCER = "millrace/relay"
BATCH = 500
SAFETY_POLL_S = 0.5
GATHER_S = 0.02
"""Seconds from one batch to the next while rows come faster than they are published: few large batches cost the broker
and all readers much less. A row that comes alone is published at once."""
LISTEN_AGAIN_S = 1.0
PROBE_S = 0.5
"""Seconds between looks at the broker while an append waits for it."""
CLAIM_EVERY_S = 2.0
MIN_BACKOFF_S, MAX_BACKOFF_S = 0.1, 2.0
BEHIND_S = 5.0
"""Seconds between looks at a store that lacks events of the log: only an operator mends it."""


@dataclass(slots=True)
class Relay:
    """Publishes the unpublished rows of the shards that it owns. Many relays may run; each shard has one owner.

    ``count`` is called with the number of rows of each batch that is published and marked.
    """

    open_outbox: Callable[[], AbstractAsyncContextManager[Outbox]]
    log: EventLog
    loss_detector: LossDetector
    count: Callable[[int], None] = lambda _: None
    store_check: StoreCheck | None = None
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _shards: frozenset[int] = frozenset()
    _epoch: str | None = None

    def wake(self) -> None:
        """Look for new rows now."""
        self._woken.set()

    @property
    def shards(self) -> frozenset[int]:
        """Return the shards that this relay owns now."""
        return self._shards

    def owns(self, shard: int) -> bool:
        """Return True when this relay owns the shard, so that waking it suffices for rows of the shard."""
        return shard in self._shards

    async def run(self) -> None:
        """Publish for ever; wait while the store or the broker is out."""
        clock, backoff = asyncio.get_running_loop().time, MIN_BACKOFF_S
        while True:
            began = clock()
            try:
                async with self.open_outbox() as outbox:
                    await self._serve(outbox)
            except StoreBehind:
                backoff = BEHIND_S
            except Unavailable as exc:
                _log.warning(
                    "relay_waits",
                    shards=len(self._shards),
                    reason=str(exc),
                    driver=exc.driver,
                    wait_s=round(backoff, 2),
                )
            finally:
                self._own(frozenset())  # the locks end with the connection
            await asyncio.sleep(backoff * random.uniform(0.5, 1.5))
            lasted = clock() - began > MAX_BACKOFF_S * 2
            backoff = MIN_BACKOFF_S if lasted else min(backoff * 2, MAX_BACKOFF_S)

    async def _serve(self, outbox: Outbox) -> None:
        clock = asyncio.get_running_loop().time
        claim_at = clock()
        self.loss_detector.reset()
        self._epoch = await outbox.begin_epoch()
        if self.store_check is not None:
            await self.store_check.ensure_complete(outbox)
        while True:
            if clock() >= claim_at:
                claim_at = clock() + CLAIM_EVERY_S
                await outbox.claim()
                self._own(outbox.shards)
            self._woken.clear()
            began = clock()
            published = await self.publish(outbox)
            if published > 1:
                await asyncio.sleep(max(0.0, began + GATHER_S - clock()))
            elif not published:
                await self.loss_detector.ensure_intact(outbox, IDLE_S)
                with suppress(TimeoutError):
                    async with asyncio.timeout(SAFETY_POLL_S):  # wait_for may swallow a cancellation before 3.12
                        await self._woken.wait()

    def _own(self, shards: frozenset[int]) -> None:
        if claimed := shards - self._shards:
            _log.debug("shards_claimed", shards=sorted(claimed))
        if lost := self._shards - shards:
            _log.debug("shards_lost", shards=sorted(lost), reason="the outbox was closed")
        self._shards = shards

    @property
    def warnings(self) -> list[str]:
        """Return sentences on what keeps the relay from its work, or is wrong with the log."""
        return [*self.loss_detector.warnings, *(self.store_check.warnings if self.store_check is not None else ())]

    async def publish(self, outbox: Outbox) -> int:
        """Publish one batch (read, append, mark) and return its number of rows.

        Raises Unavailable; then nothing is marked and all is tried again. Nothing is marked either when the log
        turns out to have lost records: the batch is owed again with all the rest.
        """
        await self.loss_detector.ensure_intact(outbox)
        clock = asyncio.get_running_loop().time
        began, rows = clock(), await outbox.unpublished(BATCH)
        if rows:
            ends = await self._append([_record(row, self._epoch) for row in rows])
            if await self.loss_detector.still_intact(outbox):
                await outbox.mark(rows, ends)
                ms = round((clock() - began) * 1000, 1)
                _log.debug("batch_published", rows=len(rows), shards=len(outbox.shards), ms=ms)
                self.count(len(rows))
        return len(rows)

    async def _append(self, records: Sequence[Record]) -> Mapping[str, int]:
        """Append, while the broker answers. Raises Unavailable.

        An append that waits until a broker is back would go to one that may have come back empty, so it is cancelled as
        soon as the broker does not answer.
        """
        appending = asyncio.ensure_future(self.log.append(records))
        try:
            while not (await asyncio.wait({appending}, timeout=PROBE_S))[0]:
                await self.loss_detector.positions.read()
            return appending.result()
        finally:
            await end(appending)


def _record(row: Owed, epoch: str | None) -> Record:
    about = headers(row.topic, row.event_id, PRODUCER, is_replay=row.replay, epoch=epoch)
    return Record(row.topic, row.conversation_id.encode(), row.value, about)


async def wake_on_announcements(relay: Relay, announcements: Callable[[], AsyncIterator[None]]) -> None:
    """Wake the relay when another process has written rows; the safety poll covers what is missed."""
    while True:
        with suppress(Unavailable):
            async for _ in announcements():
                _log.debug("relay_woken", shards=len(relay.shards), reason="announcement")
                relay.wake()
        await asyncio.sleep(LISTEN_AGAIN_S)
