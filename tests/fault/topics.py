"""What lies in Kafka, read from outside the product."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import orjson
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from runtime.kafka_settings import Kafka


@asynccontextmanager
async def _reader(kafka: Kafka) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, max_partition_fetch_bytes=4 * 2**20)
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    await consumer._client.add_topic(topic)
    await consumer._client.force_metadata_update()
    return [TopicPartition(topic, n) for n in sorted(consumer.partitions_for_topic(topic) or ())]


async def ends(kafka: Kafka, topic: str) -> dict[int, int]:
    """Where each partition ends now."""
    async with _reader(kafka) as consumer:
        found = await consumer.end_offsets(await _partitions(consumer, topic))
        return {tp.partition: offset for tp, offset in found.items()}


async def records(kafka: Kafka, topic: str, since: Mapping[int, int]) -> list[ConsumerRecord]:
    """All from these offsets to the present end, in order for each partition."""
    async with _reader(kafka) as consumer:
        partitions = await _partitions(consumer, topic)
        until = await consumer.end_offsets(partitions)
        begin = await consumer.beginning_offsets(partitions)
        consumer.assign(partitions)
        owing = set()
        for tp in partitions:
            start = max(begin[tp], since.get(tp.partition, 0))
            consumer.seek(tp, start)
            if start < until[tp]:
                owing.add(tp)
        found: list[ConsumerRecord] = []
        while owing:
            for tp, got in (await consumer.getmany(timeout_ms=500)).items():
                found += [each for each in got if each.offset < until[tp]]
                if got[-1].offset + 1 >= until[tp]:
                    owing.discard(tp)
        return found


async def committed(kafka: Kafka, group: str, topic: str) -> dict[int, int]:
    """The offsets that the group has committed."""
    client = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await client.start()
    try:
        found = await client.list_consumer_group_offsets(group)
        return {tp.partition: at.offset for tp, at in found.items() if tp.topic == topic}
    finally:
        await client.close()


def seq_of(record: ConsumerRecord) -> int:
    """Of a ``message.*`` event."""
    return int(orjson.loads(record.value)["message"]["seq"])


async def commit(kafka: Kafka, group: str, topic: str, offsets: Mapping[int, int]) -> None:
    """Set the offsets of a group that has no member."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        places = {TopicPartition(topic, partition): offset for partition, offset in offsets.items()}
        consumer.assign(list(places))
        await consumer.commit(places)
    finally:
        await consumer.stop()
