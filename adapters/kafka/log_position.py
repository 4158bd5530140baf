"""Position of the log: its cluster id, and the ends of some of its topics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from adapters.kafka.topics import apply
from adapters.kafka.uvloop_patch import patch_connections
from domain.errors import Unavailable
from domain.log_position import Position
from schemas.topics import Topic

_log = structlog.get_logger()

_FIRST_S, _READ_S = 12.0, 5.0
_REQUEST_MS = 5_000
"""A reading takes three round trips one after the other, the first one eleven: so a broker that is a second away is
read. Either is shorter than what a silent session of the relay is left alone for: see ``let_go`` of the outbox."""


@dataclass(slots=True)
class KafkaPositions:
    """Positions of the topics that ``writer`` writes, on connections that stay open while the broker answers."""

    bootstrap: str
    topics: Sequence[Topic]
    writer: str
    _admin: AIOKafkaAdminClient | None = None
    _consumer: AIOKafkaConsumer | None = None
    _ours: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self._ours = frozenset(topic.name for topic in self.topics if self.writer in topic.writers)

    async def read(self) -> Position:
        try:
            async with asyncio.timeout(_FIRST_S if self._consumer is None else _READ_S):
                return await self._read(*await self._connected())
        except (KafkaError, TimeoutError, OSError) as exc:
            await self.close()
            raise Unavailable("Kafka does not answer; the position of its log is unknown") from exc
        except BaseException:  # cancelled, too: an answer that was not read would be taken for that of the next request
            await self.close()
            raise

    async def restore(self, replication: int) -> None:
        await apply(self.bootstrap, self.topics, replication=replication)

    async def _connected(self) -> tuple[AIOKafkaAdminClient, AIOKafkaConsumer]:
        if self._admin is None or self._consumer is None:
            patch_connections()
            self._admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap, request_timeout_ms=_REQUEST_MS)
            self._consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, request_timeout_ms=_REQUEST_MS)
            await asyncio.gather(self._admin.start(), self._consumer.start())
            _log.debug("log_position_connected", topics=sorted(self._ours))
        return self._admin, self._consumer

    async def _read(self, admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer) -> Position:
        cluster = await admin.describe_cluster()
        described = await admin.describe_topics()
        existing = {topic["topic"]: topic["partitions"] for topic in described if not topic["error_code"]}
        mine = {name: existing[name] for name in self._ours if name in existing}
        return Position(
            cluster_id=cluster["cluster_id"],
            replication=min((len(p["replicas"]) for found in mine.values() for p in found), default=0),
            ends=await _ends(consumer, mine),
            missing=tuple(topic.name for topic in self.topics if topic.name not in existing),
            partitions={topic.name: len(existing[topic.name]) for topic in self.topics if topic.name in existing},
        )

    async def close(self) -> None:
        """Close the connections, within bounded time."""
        open_, self._admin, self._consumer = (self._admin, self._consumer), None, None
        with suppress(KafkaError, TimeoutError, OSError):
            async with asyncio.timeout(_READ_S):
                if open_[0] is not None:
                    await open_[0].close()
                if open_[1] is not None:
                    await open_[1].stop()


async def _ends(consumer: AIOKafkaConsumer, topics: dict[str, Any]) -> dict[str, int]:
    places = [TopicPartition(name, p["partition"]) for name, found in topics.items() for p in found]
    if not places:
        return {}
    for name in topics:
        await consumer._client.add_topic(name)
    ends = await consumer.end_offsets(places)
    return {f"{place.topic}/{place.partition}": end for place, end in ends.items()}


@asynccontextmanager
async def open_positions(bootstrap: str, topics: Sequence[Topic], writer: str) -> AsyncIterator[KafkaPositions]:
    """Yield positions that connect at their first reading."""
    positions = KafkaPositions(bootstrap, topics, writer)
    try:
        yield positions
    finally:
        await positions.close()
