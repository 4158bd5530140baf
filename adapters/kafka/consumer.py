"""Consumers outside Faust: batches of records, and explicit commits of the records that were returned."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from adapters.kafka.access import access
from adapters.kafka.closing import close
from adapters.kafka.header_patch import patch_header_names
from adapters.kafka.metadata import partitions_of
from adapters.kafka.refusals import unavailable
from domain.errors import Unavailable
from runtime.kafka_settings import Kafka
from schemas.codec import Headers, headers_of

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Received:
    """Record as it was read."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(slots=True)
class _Positions(ConsumerRebalanceListener):  # type: ignore[misc]
    """Positions behind the records returned so far, of assigned partitions. A revoked partition is never committed."""

    group: str
    next_offset: dict[TopicPartition, int] = field(default_factory=dict)

    async def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        if revoked:
            _log.debug("partitions_revoked", group=self.group, partitions=_names(revoked))
        for tp in revoked:
            self.next_offset.pop(tp, None)

    async def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        _log.debug("partitions_assigned", group=self.group, partitions=_names(assigned))
        for tp in assigned:
            self.next_offset.pop(tp, None)


def _names(partitions: Iterable[TopicPartition]) -> list[str]:
    return sorted(f"{tp.topic}/{tp.partition}" for tp in partitions)


@dataclass(slots=True)
class KafkaConsumer:
    """Member of a group. Delivers at least once: records that were not committed are read again."""

    _consumer: AIOKafkaConsumer
    _positions: _Positions

    @property
    def assigned(self) -> bool:
        """Return True while the group has given this member partitions."""
        return bool(self._consumer.assignment())

    async def batch(self, limit: int) -> Sequence[Received]:
        """Return at least one record, at most ``limit``, in order for each partition. Raises Unavailable."""
        while True:
            try:
                fetched = await self._consumer.getmany(timeout_ms=1000, max_records=limit)
            except KafkaError as exc:
                raise unavailable(exc) from exc
            received = [
                Received(m.topic, m.partition, m.offset, m.key, m.value, headers_of(m.headers))
                for messages in fetched.values()
                for m in messages
            ]
            for tp, messages in fetched.items():
                self._positions.next_offset[tp] = messages[-1].offset + 1
            if received:
                return received
            if self._consumer._fetcher._fetch_task.done():  # aiokafka raises nothing then
                raise Unavailable("Kafka does not answer; the consumer reads no more")

    async def commit(self) -> None:
        """Commit all records that ``batch`` returned. A commit lost to a rebalance costs only repeats.

        Raises Unavailable.
        """
        offsets = {
            tp: offset for tp, offset in self._positions.next_offset.items() if tp in self._consumer.assignment()
        }
        if not offsets:
            return
        try:
            await self._consumer.commit(offsets)
        except (CommitFailedError, IllegalStateError):
            return
        except KafkaError as exc:
            raise unavailable(exc) from exc


@asynccontextmanager
async def open_consumer(
    kafka: Kafka, *, topics: Sequence[str], group: str, client_id: str = "millrace"
) -> AsyncIterator[KafkaConsumer]:
    """Join a group; a new group starts at the beginning. Raises Unavailable."""
    patch_header_names()
    consumer = AIOKafkaConsumer(
        **access(kafka),
        group_id=group,
        client_id=client_id,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=6_000,
        heartbeat_interval_ms=1_500,
        rebalance_timeout_ms=30_000,
        max_poll_interval_ms=300_000,
        fetch_max_wait_ms=500,
        max_partition_fetch_bytes=4 * 1024 * 1024,
        # A conversation is on the same partition of each topic: by range one member gets it in all topics, so facts of
        # one topic hold for the others. One strategy only: aiokafka joins once for each, and members that are out of
        # step then send each other back for ever.
        partition_assignment_strategy=(RangePartitionAssignor,),
        metadata_max_age_ms=5_000,  # notices topics that a broker lost and has again
    )
    positions = _Positions(group)
    try:
        async with asyncio.timeout(30):
            await consumer.start()
        consumer.subscribe(list(topics), listener=positions)
    except (KafkaError, TimeoutError, OSError) as exc:
        await close(consumer.stop())
        raise unavailable(exc) from exc
    try:
        yield KafkaConsumer(consumer, positions)
    finally:
        await close(consumer.stop())


async def read_topic(kafka: Kafka, topic: str) -> list[Received]:
    """Return all records of a topic, each partition in order, outside any group. Raises Unavailable."""
    patch_header_names()
    consumer = AIOKafkaConsumer(**access(kafka), enable_auto_commit=False, auto_offset_reset="earliest")
    try:
        async with asyncio.timeout(30):
            await consumer.start()
            places = (await partitions_of(consumer, [topic]))[topic]
        if not places:
            raise Unavailable(f"the broker has no topic {topic}; run `millrace topics apply`")
        ends = await consumer.end_offsets(places)
        return await _read_up_to(consumer, {place: end for place, end in ends.items() if end > 0})
    except (KafkaError, TimeoutError, OSError) as exc:
        raise unavailable(exc) from exc
    finally:
        await close(consumer.stop())


async def _read_up_to(consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]) -> list[Received]:
    if not ends:
        return []
    consumer.assign(list(ends))
    await consumer.seek_to_beginning(*ends)
    received: list[Received] = []
    while True:
        async with asyncio.timeout(30):
            left = [place for place, end in ends.items() if await consumer.position(place) < end]
            if not left:
                return sorted(received, key=lambda r: (r.partition, r.offset))
            fetched = await consumer.getmany(*left, timeout_ms=1000)
        received += [
            Received(m.topic, m.partition, m.offset, m.key, m.value, headers_of(m.headers))
            for place, messages in fetched.items()
            for m in messages
            if m.offset < ends[place]
        ]
