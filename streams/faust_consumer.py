"""A Faust consumer that loses nothing. For faust-streaming 0.15.3 exactly: it replaces private parts.

What it replaces in ``faust/transport/consumer.py``:

* ``_new_offset`` commits past a record that is still being worked on (faust-streaming #606); here a ring for each
  partition holds what was delivered, and only what is before the oldest unfinished record is committed.
* ``_drain_messages`` makes four tasks for each record; here a record is awaited directly unless it could block.
* ``wait_empty`` waits without limit, which blocks SIGTERM and the whole group; here it is bounded.
* ``perform_seek`` trusts what is committed, and may overlap with itself; here it takes turns, and begins at the
  beginning if the log has lost records since.
* ``_wait_next_records`` sleeps a second when all buffers are full; here it waits for room.

And what ``faust/transport/drivers/aiokafka.py`` does not let through: how long the broker gathers records for a fetch.
"""

from __future__ import annotations

import asyncio
import gc
from collections import defaultdict, deque
from contextlib import suppress
from typing import Any

from faust.transport.drivers import aiokafka as driver

from domain.errors import Unavailable
from domain.log_position import Epochs

_LOOK_S = 0.02
_COLLECT_EVERY = 25
_ASK_AGAIN_S = 0.5
_A_FULL_FETCH = 1024 * 1024


class _Thread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Lets the broker gather records for as long as the stage's policy allows."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        client = super()._create_worker_consumer(transport)
        if self.app.gather_s:
            client._fetch_max_wait_ms, client._fetch_min_bytes = int(self.app.gather_s * 1000), _A_FULL_FETCH
        return client


class StageConsumer(driver.Consumer):  # type: ignore[misc]
    """Commits in the order of delivery. Events are acked by hand, or dropped by ``forget`` and read again."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._ring: defaultdict[Any, deque[int]] = defaultdict(deque)
        self._room = asyncio.Event()
        self._seeking = asyncio.Lock()
        self._n_acked = 0
        self.epoch: int | None = None
        super().__init__(*args, **kwargs)

    def _new_consumer_thread(self) -> _Thread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)

    def _new_offset(self, tp: Any) -> int | None:
        ring, acked = self._ring[tp], self._acked_index[tp]
        last: int | None = None
        while ring and ring[0] in acked:
            last = ring.popleft()
            acked.discard(last)
        self._acked[tp].clear()  # only used as "there are acks to look at"
        return None if last is None else last + 1

    async def _add_gap(self, tp: Any, offset_from: int, offset_to: int) -> None:
        """Nothing: the ring holds delivered offsets only, so gaps of the log do not matter."""

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                await self._deliver_fetched()
                await asyncio.sleep(0)
        except self.consumer_stopped_errors:
            if not self.app.should_stop:
                raise
        except asyncio.CancelledError:
            if not self.app.should_stop:
                raise

    async def _deliver_fetched(self) -> None:
        """Hand out one fetch, or the part of it before the flow was suspended."""
        count = 0
        async for tp, message in self.getmany(timeout=1.0):
            floor = self._read_offset[tp]
            if floor is not None and message.offset < floor:
                continue
            if self.app.topics.acks_enabled_for(message.topic):
                self._ring[tp].append(message.offset)
            if not await self._deliver(tp, message):
                return  # perform_seek() rewinds and resets the ring
            self._read_offset[tp] = message.offset
            count += 1
            if not count % 100:
                await asyncio.sleep(0)
            if self._commit_every and self._n_acked >= self._commit_every:
                self._n_acked = 0
                await self.commit()

    async def _deliver(self, tp: Any, message: Any) -> bool:
        full = any(channel.queue.full() for channel in self.app.topics._tp_index.get(tp, ()))
        if self.flow_active and not full:
            await self.callback(message)
            return True
        await self.wait_first(self.callback(message), self.suspend_flow.wait())
        return bool(self.flow_active)

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """Acks that are not committed yet are committed first, else their records come again."""
        await self.commit()
        await super().on_partitions_revoked(revoked)

    async def wait_empty(self) -> None:
        """Wait for what is being worked on, at most half a rebalance."""
        loop = asyncio.get_running_loop()
        end = loop.time() + 0.5 * self.app.conf.broker_rebalance_timeout
        rounds = 0
        while self._unacked_messages and loop.time() < end:
            rounds += 1
            if not rounds % _COLLECT_EVERY:
                gc.collect()  # events that were dropped on purpose leave the WeakSet
            await asyncio.sleep(_LOOK_S)
            self._clean_unacked_messages()
        if self._unacked_messages:
            self.log.error("giving up %d events in flight; they come again", len(self._unacked_messages))
            self._unacked_messages.clear()
        await self.commit_and_end_transactions()

    async def perform_seek(self) -> None:
        """Move the positions back to what is committed, and forget all that was delivered.

        Faust calls this from its recovery and from its fetcher, also at the same time. Taking turns matters when the
        log has lost records: of two calls that overlap, one would move to the beginning, and the other then to an
        offset of the earlier log, past records that nobody has read. A commit under way is such an offset, too.
        """
        async with self._seeking:
            await self.maybe_wait_for_commit_to_finish()
            self._ring.clear()
            self._acked.clear()
            self._acked_index.clear()
            await super().perform_seek()
            await self._know_epoch()

    async def _know_epoch(self) -> None:
        """While the store is away nothing could be worked on anyway; Faust would take its error for the end."""
        loop = asyncio.get_running_loop()
        end = loop.time() + 0.5 * self.app.conf.broker_rebalance_timeout
        while True:
            try:
                return await self._start_over()
            except Unavailable:
                if loop.time() > end or self.app.should_stop:
                    raise
                await asyncio.sleep(_ASK_AGAIN_S)

    async def _start_over(self) -> None:
        """Positions that were reached before the log lost something lead nowhere: begin at the beginning."""
        places = {f"{tp.topic}/{tp.partition}": tp for tp in self.assignment()}
        epochs: Epochs = self.app.epochs
        now = await epochs.current()
        before = await epochs.of(list(places))
        stale = [tp for name, tp in places.items() if before.get(name, now) < now]
        if stale:
            self.log.warning("the log has lost records: %d partitions are read from their beginnings", len(stale))
        for tp, begin in (await self.earliest_offsets(*stale)).items() if stale else ():
            await self._commit({tp: begin})
            await self.seek(tp, begin)
            self._committed_offset[tp] = begin
        await epochs.reached(list(places), now)
        self.epoch = now

    async def lag(self) -> int:
        """How many records of our partitions are not committed yet, as the broker sees it."""
        mine = self.assignment()
        if not mine:
            return 0
        begins, ends = await self.earliest_offsets(*mine), await self.highwaters(*mine)
        return sum(max(0, ends[tp] - max(begins[tp], self._committed_offset[tp] or 0)) for tp in mine)

    def forget(self, message: Any) -> None:
        """An event was dropped un-acked on purpose: do not wait for it."""
        self._unacked_messages.discard(message)

    def on_buffer_drop(self, tp: Any) -> None:
        """A stream buffer has room again."""
        super().on_buffer_drop(tp)
        self._room.set()

    async def _wait_next_records(self, timeout: float) -> Any:
        if self.flow_active and not self.app.client_only and not self._get_active_partitions():
            self._room.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._room.wait(), 1.0)
            return None, None
        return await super()._wait_next_records(timeout)


class StageTransport(driver.Transport):  # type: ignore[misc]
    """The aiokafka transport with our consumer."""

    Consumer = StageConsumer


def install(app: Any, epochs: Epochs, *, gather_s: float) -> None:
    """Make the app use StageConsumer. Before it starts."""
    app.epochs, app.gather_s = epochs, gather_s
    app.transport = StageTransport(app.conf.broker_consumer, app)
