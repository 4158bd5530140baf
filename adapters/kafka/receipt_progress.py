"""Progress of the status stage in the topic of receipts, from the broker: ends of the log, and committed offsets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka import TopicPartition

from adapters.kafka.group_offsets import group_offsets
from adapters.kafka.held_clients import HeldClients
from adapters.kafka.metadata import partitions_of
from domain.errors import Unavailable
from domain.receipts import Progress
from runtime.kafka_settings import Kafka


@dataclass(frozen=True, slots=True)
class KafkaReceiptProgress:
    """ReceiptProgress of the group ``group``, on connections that stay open while the broker answers."""

    clients: HeldClients
    topic: str
    group: str

    async def read(self) -> Mapping[int, Progress]:
        async with self.clients.reading("it is unknown which receipts are in the store") as (admin, consumer):
            await consumer._client.add_topic(self.topic)
            numbers = consumer.partitions_for_topic(self.topic)
            if not numbers:
                await partitions_of(consumer, [self.topic])
                raise Unavailable(f"Kafka has no topic {self.topic}; run `millrace topics apply`")
            places = [TopicPartition(self.topic, number) for number in sorted(numbers)]
            ends = await consumer.end_offsets(places)
            committed = await group_offsets(admin, self.group, places)
            begins = await consumer.beginning_offsets([p for p in places if committed[p] < 0])
        return {p.partition: Progress(ends[p], max(committed[p], begins.get(p, 0))) for p in places}


@asynccontextmanager
async def open_receipt_progress(kafka: Kafka, topic: str, group: str) -> AsyncIterator[KafkaReceiptProgress]:
    """Yield progress that connects at its first reading."""
    clients = HeldClients(kafka)
    try:
        yield KafkaReceiptProgress(clients, topic, group)
    finally:
        await clients.close()
