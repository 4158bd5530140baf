"""Positions of a group that its consumer takes up again."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from runtime.kafka_settings import Kafka
from schemas.ids import new_id
from streams.faust_client import rewind


async def values(client: AIOKafkaConsumer, count: int) -> list[bytes]:
    async with asyncio.timeout(20):
        return [(await client.getone()).value for _ in range(count)]


async def test_what_was_fetched_and_never_committed_is_read_again(kafka: Kafka):
    """Also from a partition that has no committed position yet, which aiokafka does not rewind."""
    topic = group = f"rewound-{new_id()[-8:]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await admin.close()
    sent = [b"first", b"second", b"third"]
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        for value in sent:
            await producer.send_and_wait(topic, value)
    async with AIOKafkaConsumer(
        topic,
        bootstrap_servers=kafka.bootstrap,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    ) as client:
        assert await values(client, 3) == sent
        await rewind(client)
        assert await values(client, 3) == sent
        await client.commit({TopicPartition(topic, 0): 2})
        await rewind(client)
        assert await values(client, 1) == sent[2:]
