"""Relay of outbox rows to Kafka: each conversation in seq order, no row skipped.

Rows are chosen by state (not yet published), so a late commit cannot be overlooked. What this process has committed
itself is published without being read, where it is certainly next; else, and every ``SAFETY_POLL_S``, rows are read.
They are marked only after the broker's acknowledgement, many at a time; a crash in between publishes them again, which
readers drop by event id. Records that the broker loses afterwards are published again too, while their rows are
retained.
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
from ingest.committed import Committed
from ingest.loss_detection import IDLE_S, RESTART_S, LossDetector
from ingest.store_check import StoreCheck
from runtime.tasks import end
from schemas.codec import Record, headers

_log = structlog.get_logger()

PRODUCER = "millrace/relay"
BATCH = 500
SAFETY_POLL_S = 0.5
"""Seconds after which rows are read whatever was committed here, and at most until what was published is marked."""
GATHER_S = 0.005
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
    gather_s: float = GATHER_S
    _committed: Committed = field(default_factory=Committed)
    _read_at: float = 0.0
    _unmarked: list[Owed] = field(default_factory=list)
    """Rows that are in the log, whose ends are at least ``_ends``, and are not marked yet."""
    _ends: dict[str, int] = field(default_factory=dict)
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _shards: frozenset[int] = frozenset()
    _epoch: str | None = None

    def wake(self) -> None:
        """Read new rows now."""
        self._committed.must_read = True
        self._woken.set()

    def publish_soon(self, rows: Sequence[Owed]) -> None:
        """Publish rows of owned shards that this process has just committed, in the order of their seqs."""
        self._committed.add(rows)
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
        self._forget()
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
                await asyncio.sleep(max(0.0, began + self.gather_s - clock()))
            elif not published:
                await self._ensure_intact(outbox, IDLE_S)
                if not self._committed.must_read:
                    with suppress(TimeoutError):
                        async with asyncio.timeout_at(self._read_at):  # wait_for may swallow a cancellation before 3.12
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
        """Publish one batch and return its number of rows; they are marked later.

        Raises Unavailable; then what is not marked is tried again. Nothing is marked either when the log turns out to
        have lost records: the batch is owed again with all the rest.
        """
        await self._ensure_intact(outbox, RESTART_S)
        clock = asyncio.get_running_loop().time
        began, rows = clock(), await self._next(outbox)
        if rows:
            try:
                ends = await self._append([_record(row, self._epoch) for row in rows])
            except Unavailable:
                self._forget()
                raise
            if self.loss_detector.must_compare():
                await self.mark(outbox)
            if await self.loss_detector.still_intact(outbox):
                self._unmarked += rows
                self._ends |= {place: max(end, self._ends.get(place, end)) for place, end in ends.items()}
                ms = round((clock() - began) * 1000, 1)
                _log.debug("batch_published", rows=len(rows), shards=len(outbox.shards), ms=ms)
            else:
                self._forget()
        if len(self._unmarked) >= BATCH:
            await self.mark(outbox)
        return len(rows)

    async def _ensure_intact(self, outbox: Outbox, within_s: float) -> None:
        if self.loss_detector.must_compare(within_s):
            await self.mark(outbox)
        if not await self.loss_detector.ensure_intact(outbox, within_s):
            self._forget()

    def _forget(self) -> None:
        """Forget what was committed and published: the store says what is owed."""
        self._committed.forget()
        self._unmarked, self._ends = [], {}

    async def _next(self, outbox: Outbox) -> Sequence[Owed]:
        """Return the rows to publish next: those that were committed here, or what is owed by state."""
        now, committed = asyncio.get_running_loop().time(), self._committed
        if not committed.must_read and now < self._read_at:
            rows = committed.take(BATCH)
            if rows or not committed.must_read:
                return rows
        if not await self.mark(outbox):  # else they would be read again
            return ()
        committed.must_read, self._read_at = False, now + SAFETY_POLL_S
        found = await outbox.unpublished(BATCH)
        committed.must_read |= len(found) >= BATCH
        committed.read(found)
        return found

    async def mark(self, outbox: Outbox) -> bool:
        """Mark what was published; return False when it is not marked, since a loss was found. Raises Unavailable."""
        rows, ends = self._unmarked, self._ends
        self._unmarked, self._ends = [], {}
        if rows and not await outbox.mark(rows, ends):
            self._forget()
            self.loss_detector.reset()
            return False
        if rows:
            self.count(len(rows))
        return True

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
