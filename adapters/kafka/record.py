"""Single record of the log, read outside any group, and the position of a group in its partition."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from adapters.kafka.access import access
from adapters.kafka.admin import committed
from adapters.kafka.closing import close
from adapters.kafka.consumer import Received
from adapters.kafka.header_patch import patch_header_names
from adapters.kafka.metadata import partitions_of
from adapters.kafka.refusals import unavailable
from domain.errors import NotFound
from runtime.kafka_settings import Kafka
from schemas.codec import headers_of

_READ_S = 15.0


@dataclass(frozen=True, slots=True)
class GroupPosition:
    """Position of a group in a partition: the offset of the record that it takes next, and the ends of the log."""

    offset: int
    begin: int
    end: int


async def position_of(kafka: Kafka, group: str, topic: str, partition: int) -> GroupPosition:
    """Return the position of a group; one that has committed none stands at the begin.

    Raises NotFound when there is no such partition, Unavailable.
    """
    async with _partition(kafka, topic, partition) as (consumer, place):
        begin = (await consumer.beginning_offsets([place]))[place]
        end = (await consumer.end_offsets([place]))[place]
    offsets = (await committed(kafka, [group], topic))[group]
    return GroupPosition(max(begin, offsets.get(partition, begin)), begin, end)


async def read_record(kafka: Kafka, topic: str, partition: int, offset: int) -> Received:
    """Return the record at an offset. Raises NotFound, Unavailable."""
    async with _partition(kafka, topic, partition) as (consumer, place):
        consumer.assign([place])
        consumer.seek(place, offset)
        record = await consumer.getone(place)
    if record.offset != offset:
        raise NotFound(f"{topic}/{partition} has no record at offset {offset}; the next one is at {record.offset}")
    return Received(topic, partition, offset, record.key, record.value, headers_of(record.headers))


@asynccontextmanager
async def _partition(
    kafka: Kafka, topic: str, partition: int
) -> AsyncIterator[tuple[AIOKafkaConsumer, TopicPartition]]:
    patch_header_names()
    consumer = AIOKafkaConsumer(**access(kafka), enable_auto_commit=False, auto_offset_reset="none")
    try:
        async with asyncio.timeout(_READ_S):
            await consumer.start()
            place = TopicPartition(topic, partition)
            if place not in (await partitions_of(consumer, [topic]))[topic]:
                raise NotFound(f"the broker has no partition {partition} of {topic}")
            yield consumer, place
    except (KafkaError, TimeoutError, OSError) as exc:
        raise unavailable(exc) from exc
    finally:
        await close(consumer.stop())
