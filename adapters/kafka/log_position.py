"""Position of the log: its cluster id, and the ends of some of its topics."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from adapters.kafka.admin import topic_rows
from adapters.kafka.held_clients import HeldClients
from adapters.kafka.topics import create_missing
from domain.log_position import Position
from runtime.kafka_settings import Kafka
from schemas.topics import Topic


@dataclass(slots=True)
class KafkaPositions:
    """Positions of the topics that ``writer`` writes, on connections that stay open while the broker answers."""

    kafka: Kafka
    topics: Sequence[Topic]
    writer: str
    clients: HeldClients = field(init=False)
    _ours: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self.clients = HeldClients(self.kafka)
        self._ours = frozenset(topic.name for topic in self.topics if self.writer in topic.writers)

    async def read(self) -> Position:
        async with self.clients.reading("the position of its log is unknown") as clients:
            return await self._read(*clients)

    async def restore(self, replication: int) -> None:
        await create_missing(self.kafka, self.topics, replication)

    async def _read(self, admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer) -> Position:
        cluster = await admin.describe_cluster()
        rows = await topic_rows(admin, [topic.name for topic in self.topics])
        existing = {name: row["partitions"] for name, row in rows.items() if not row["error_code"]}
        mine = {name: existing[name] for name in self._ours if name in existing}
        return Position(
            cluster_id=cluster["cluster_id"],
            replication=min((len(p["replicas"]) for found in mine.values() for p in found), default=0),
            ends=await _ends(consumer, mine),
            missing=tuple(topic.name for topic in self.topics if topic.name not in existing),
            partitions={topic.name: len(existing[topic.name]) for topic in self.topics if topic.name in existing},
        )


async def _ends(consumer: AIOKafkaConsumer, topics: dict[str, Any]) -> dict[str, int]:
    places = [TopicPartition(name, p["partition"]) for name, found in topics.items() for p in found]
    if not places:
        return {}
    for name in topics:
        await consumer._client.add_topic(name)
    ends = await consumer.end_offsets(places)
    return {f"{place.topic}/{place.partition}": end for place, end in ends.items()}


@asynccontextmanager
async def open_positions(kafka: Kafka, topics: Sequence[Topic], writer: str) -> AsyncIterator[KafkaPositions]:
    """Yield positions that connect at their first reading."""
    positions = KafkaPositions(kafka, topics, writer)
    try:
        yield positions
    finally:
        await positions.clients.close()
