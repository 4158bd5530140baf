"""Somebody raises the number of partitions of a topic on a real broker, while producers and readers run."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from adapters.kafka.log_position import open_positions
from adapters.kafka.producer import open_log
from adapters.kafka.reader import open_reader
from adapters.kafka.topics import apply
from runtime.kafka_settings import Kafka
from schemas.codec import Record
from schemas.ids import new_id
from schemas.topics import load, partition_count


async def test_conversations_stay_where_they_are_and_the_difference_is_seen(kafka: Kafka):
    topic = replace(load()[0], name=f"test.{new_id()}")
    keys = [new_id().encode() for _ in range(40)]
    await apply(kafka, [topic], replication=1)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    async with open_log(kafka) as log, open_positions(kafka, [topic], topic.writers[0]) as positions:
        before = await log.append([Record(topic.name, key, b"1") for key in keys])
        assert (await positions.read()).partitions == {topic.name: partition_count()}
        await admin.create_partitions({topic.name: NewPartitions(partition_count() + 6)})
        async with asyncio.timeout(30):
            while (await positions.read()).partitions != {topic.name: partition_count() + 6}:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        async with open_log(kafka) as restarted:  # which knows the new number from its start
            after = await restarted.append([Record(topic.name, key, b"2") for key in keys])
    await admin.close()
    assert after.keys() == before.keys()
    assert await apply(kafka, [topic], replication=1) == []
    async with open_reader(kafka) as reader:
        begins = (await reader.begins([topic.name], 0)).topics[topic.name]
        offsets = {(topic.name, number): 0 for number in range(len(begins))}
        records = [record async for batch in reader.read(offsets) for record in batch]
    assert len(begins) == partition_count() + 6
    assert {record.partition for record in records} <= set(range(partition_count()))
    for key in keys:
        assert [record.value for record in records if record.key == key] == [b"1", b"2"]
