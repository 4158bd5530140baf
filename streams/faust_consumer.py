"""Faust consumer that loses no record. For faust-streaming 0.15.3 exactly, since it replaces private parts.

Replaced in ``faust/transport/consumer.py``:

* ``_new_offset`` commits past a record that is still being worked on (faust-streaming #606); here a ring for each
  partition holds the chunks that were delivered, and only those before the oldest unfinished one are committed.
* ``getmany`` hands out a fetch record by record, and ``_drain_messages`` makes four tasks for each; here an event
  carries a chunk of records (``deliveries.py``), and is awaited directly unless it could block.
* ``wait_empty`` waits without limit, which blocks SIGTERM and the whole group; here it is bounded.
* ``perform_seek`` trusts the committed positions, and may overlap with itself and with deliveries; here calls take
  turns, nothing is delivered meanwhile, and positions from before a loss of the log are replaced by the beginning. It
  raises RebalanceAgain when another rebalance has begun: Faust would resume the flow in the middle of that one.
* ``verify_all_partitions_active`` asserts that each partition has a position, which one that was just rewound may lack:
  then the consumer crashes. It only logs that a partition stands still; the watchdog of the worker ends the process.
* ``_wait_next_records`` sleeps a second when all buffers are full; here it waits for room.

The ring of a partition, with four chunks delivered, which end at the offsets 255, 511, 767 and 900, and all but the
third done: a commit takes the first two off and commits position 512. The fourth stays behind the third, which is still
being worked on; after a crash both come again.

    delivered ──► [ ..255✓  ..511✓  ..767  ..900✓ ] ──► commit 512
"""

from __future__ import annotations

import asyncio
import gc
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import structlog
from faust.tables.recovery import RebalanceAgain
from faust.transport.drivers import aiokafka as driver

from adapters.kafka.refusals import refusal_of
from domain.errors import Unavailable
from domain.log_position import Epochs
from streams.deliveries import Chunk, chunks, from_floor, position_behind
from streams.faust_client import StageClient
from streams.watchdog import Behind

_log = structlog.get_logger()

_LOOK_S = 0.02
_COLLECT_EVERY = 25
_RETRY_S = 0.5
_FETCH_S, _FETCH_BESIDE_FULL_S = 1.0, 0.05
"""Waits for records: for all partitions, and for those with room while others, which may have room soon, have none."""


class StageConsumer(driver.Consumer):  # type: ignore[misc]
    """Consumer that commits in the order of delivery.

    The message of an event has its records in ``records``, and in ``chunk`` how many of them are finished. Events are
    acked by hand, or dropped by ``forget`` and read again.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._ring: defaultdict[Any, deque[Chunk]] = defaultdict(deque)
        """Chunks by partition, as delivered, from the oldest that is not committed."""
        self._room = asyncio.Event()
        self._turns = asyncio.Lock()
        """Held while one fetch is delivered, and while positions are moved."""
        self.epoch: int | None = None
        """Epoch of the log that the current positions belong to."""
        super().__init__(*args, **kwargs)

    def _new_consumer_thread(self) -> StageClient:
        return StageClient(self, loop=self.loop, beacon=self.beacon)

    def _new_offset(self, tp: Any) -> int | None:
        """Return the position to commit: behind the chunks at the ring's front that are done; None for none."""
        self._acked[tp].clear()  # Faust reads both only as a sign that there are acks to look at
        self._acked_index[tp].clear()
        return position_behind(self._ring[tp])

    async def _add_gap(self, tp: Any, offset_from: int, offset_to: int) -> None:
        """Do nothing: the ring holds what was delivered only, so gaps of the log do not matter."""

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                if not self.flow_active:
                    await self.wait(self.can_resume_flow)
                async with self._turns:
                    await self._deliver_fetched()
                await asyncio.sleep(0)
        # Faust stops this task by errors and by cancelling it. Outside a shutdown either one is a failure, which must
        # leave the task: else the consumer would stay in its group and read nothing.
        except self.consumer_stopped_errors:
            if not self.app.should_stop:
                raise
        except asyncio.CancelledError:
            if not self.app.should_stop:
                raise
        except Exception as exc:
            if refused := refusal_of(exc):
                self.app.on_refused(refused)  # ends the process in one line, where Faust would log a crash
            raise

    async def _deliver_fetched(self) -> None:
        """Deliver one fetch, or the part of it before the flow was suspended.

        What is not delivered is read again: ``perform_seek`` empties the ring and rewinds before the flow is resumed.
        """
        waits = _FETCH_BESIDE_FULL_S if self._buffered_partitions else _FETCH_S
        fetched, active = await self._wait_next_records(waits)
        if not fetched or self.should_stop:
            return
        generation = self.app.consumer_generation_id
        known = {
            tp: from_floor(records, self._read_offset[tp])
            for tp, records in fetched.items()
            if tp in active or tp in self._buffered_partitions
        }
        for tp, records in chunks(known):
            if not self.flow_active or generation != self.app.consumer_generation_id:
                return
            message = self._message(tp, records)
            if self.app.topics.acks_enabled_for(message.topic):
                self._ring[tp].append(message.chunk)
            if not await self._deliver(tp, message):
                _log.debug("flow_suspended", stage=self.app.stage, partitions=_names([tp]), offset=records[0].offset)
                return
            self._read_offset[tp] = message.offset

    def _message(self, tp: Any, records: Sequence[Any]) -> Any:
        """Return the message of a chunk. It stands at the last record, and has no bytes that Faust could decode."""
        message = self._to_message(tp, records[-1])
        message.key = message.value = message.headers = None
        message.records, message.chunk = records, Chunk(message.offset, len(records))
        return message

    async def _deliver(self, tp: Any, message: Any) -> bool:
        """Put a chunk into the buffers of its streams; False when the flow was suspended meanwhile.

        With room in all buffers it cannot block, so it is awaited directly, without a task. A full buffer may block
        during a rebalance, which suspends the flow and waits for this method, so the suspension ends the wait, too.
        """
        full = any(channel.queue.full() for channel in self.app.topics._tp_index.get(tp, ()))
        if self.flow_active and not full:
            await self.callback(message)
            return True
        await self.wait_first(self.callback(message), self.suspend_flow.wait())
        return bool(self.flow_active)

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """Commit the acks that are not committed yet, else their records come again."""
        await self.commit()
        _log.debug("partitions_revoked", stage=self.app.stage, partitions=_names(revoked))
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: Any, generation_id: int = 0) -> None:
        """Take the partitions of a new generation of the group."""
        _log.debug("partitions_assigned", stage=self.app.stage, partitions=_names(assigned), generation=generation_id)
        await super().on_partitions_assigned(assigned, generation_id)

    async def _commit_offsets(self, offsets: Any, start_new_transaction: bool = True) -> bool:
        done = bool(await super()._commit_offsets(offsets, start_new_transaction=start_new_transaction))
        partitions = {f"{tp.topic}/{tp.partition}": offset for tp, offset in offsets.items()}
        _log.debug("positions_committed", stage=self.app.stage, partitions=partitions, done=done)
        return done

    async def wait_empty(self) -> None:
        """Wait until no record is being worked on, at most half a rebalance, so that the group need not expel us."""
        loop = asyncio.get_running_loop()
        end = loop.time() + 0.5 * self.app.conf.broker_rebalance_timeout
        rounds = 0
        while self._unacked_messages and loop.time() < end:
            rounds += 1
            if not rounds % _COLLECT_EVERY:
                gc.collect()  # the WeakSet still holds dropped events that are part of a cycle
            await asyncio.sleep(_LOOK_S)
            self._clean_unacked_messages()
        if self._unacked_messages:
            _log.error(
                "events_given_up",
                stage=self.app.stage,
                count=len(self._unacked_messages),
                reason="they did not end within half a rebalance; they come again",
            )
            self._unacked_messages.clear()
        await self.commit_and_end_transactions()

    async def perform_seek(self) -> None:
        """Move the positions back to the committed ones, and forget all deliveries.

        Faust calls this from its recovery. Turns matter when the log has lost records: of two calls that overlap, one
        would move to the beginning, and the other then to an offset of the earlier log, past records that nobody has
        read. A commit under way writes such an offset, too. And what is delivered meanwhile stands in a ring before
        lower offsets, which then are never committed.

        Raises RebalanceAgain when another rebalance has begun since.
        """
        rebalances = self.app.rebalancing_count
        async with self._turns:
            await self.maybe_wait_for_commit_to_finish()
            self._ring.clear()
            self._acked.clear()
            self._acked_index.clear()
            await super().perform_seek()
            await self._check_epoch_with_retries()
            _log.debug(
                "partitions_seeked", stage=self.app.stage, partitions=_names(self.assignment()), epoch=self.epoch
            )
        if self.app.rebalancing_count != rebalances:
            raise RebalanceAgain

    async def _check_epoch_with_retries(self) -> None:
        """Check the epoch; wait for the store while it is out, at most half a rebalance. Raises Unavailable.

        Without the store no record could be worked on anyway, and an error at once would end Faust.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + 0.5 * self.app.conf.broker_rebalance_timeout
        while True:
            try:
                return await self._check_epoch()
            except Unavailable:
                if loop.time() > end or self.app.should_stop:
                    raise
                await asyncio.sleep(_RETRY_S)

    async def _check_epoch(self) -> None:
        """Replace positions of an earlier epoch of the log by the beginning of their partitions.

        A log that has lost records counts its offsets anew, so such a position may lie behind records that were never
        read. The epoch is noted last: after a crash in between all of this is done again. Raises Unavailable.
        """
        places = {f"{tp.topic}/{tp.partition}": tp for tp in self.assignment()}
        epochs: Epochs = self.app.epochs
        now = await epochs.current()
        before = await epochs.of(list(places))
        stale = [tp for name, tp in places.items() if before.get(name, now) < now]
        if stale:
            _log.warning(
                "positions_void",
                stage=self.app.stage,
                partitions=_names(stale),
                epoch=now,
                reason="the log has lost records; the partitions are read from their beginnings",
            )
        for tp, begin in (await self.earliest_offsets(*stale)).items() if stale else ():
            await self._commit({tp: begin})
            await self.seek(tp, begin)
            self._committed_offset[tp] = begin
        await epochs.reached(list(places), now)
        self.epoch = now

    async def verify_all_partitions_active(self) -> None:
        """Do nothing: the watchdog of the worker looks after this."""

    async def behind(self) -> Mapping[str, Behind]:
        """Return the assigned partitions with records that are not committed, as the broker sees it."""
        mine = self.assignment()
        if not mine:
            return {}
        begins, ends = await self.earliest_offsets(*mine), await self.highwaters(*mine)
        positions = {tp: max(begins[tp], self._committed_offset[tp] or 0) for tp in mine}
        return {
            f"{tp.topic}/{tp.partition}": Behind(position, ends[tp] - position, self._begun(tp))
            for tp, position in positions.items()
            if ends[tp] > position
        }

    def _begun(self, tp: Any) -> int:
        """Return how many records of a partition's oldest chunk are finished."""
        ring = self._ring.get(tp)
        return ring[0].finished if ring else 0

    def forget(self, message: Any) -> None:
        """Wait no more for a message whose event was dropped un-acked on purpose."""
        self._unacked_messages.discard(message)

    def on_buffer_drop(self, tp: Any) -> None:
        """Resume fetching, since a stream buffer has room again."""
        super().on_buffer_drop(tp)
        self._room.set()

    async def _wait_next_records(self, timeout: float) -> Any:
        if not self.flow_active:  # it is waited for between two turns, since it is resumed after a seek
            return None, None
        # No active partition with an active flow means that all buffers are full.
        if not self.app.client_only and not self._get_active_partitions():
            self._room.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._room.wait()
            return None, None
        return await super()._wait_next_records(timeout)


def _names(tps: Any) -> list[str]:
    return sorted(f"{tp.topic}/{tp.partition}" for tp in tps)
