"""Progress of the status stage in the topic of receipts, from the broker: ends of the log, and committed offsets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from adapters.kafka.uvloop_patch import patch_connections
from domain.errors import Unavailable
from domain.receipts import Progress

_READ_S = 3.0


@dataclass(slots=True)
class KafkaReceiptProgress:
    """ReceiptProgress of the group ``group``, on connections that stay open while the broker answers."""

    bootstrap: str
    topic: str
    group: str
    _admin: AIOKafkaAdminClient | None = None
    _consumer: AIOKafkaConsumer | None = None

    async def read(self) -> Mapping[int, Progress]:
        try:
            async with asyncio.timeout(_READ_S):
                return await self._read()
        except (KafkaError, TimeoutError, OSError) as exc:
            await self.close()
            raise Unavailable("Kafka does not answer; it is unknown which receipts are in the store") from exc
        except BaseException:  # cancelled, too: an answer that was not read would be taken for that of the next request
            await self.close()
            raise

    async def _read(self) -> Mapping[int, Progress]:
        if self._admin is None or self._consumer is None:
            patch_connections()
            self._admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap, request_timeout_ms=3000)
            await self._admin.start()
            self._consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, request_timeout_ms=3000)
            await self._consumer.start()
        await self._consumer._client.add_topic(self.topic)
        numbers = self._consumer.partitions_for_topic(self.topic)
        if not numbers:
            await self._consumer._client.force_metadata_update()
            raise Unavailable(f"Kafka has no topic {self.topic}; run `millrace topics apply`")
        places = [TopicPartition(self.topic, number) for number in sorted(numbers)]
        ends = await self._consumer.end_offsets(places)
        committed = await self._admin.list_consumer_group_offsets(self.group, partitions=places)
        begins = await self._consumer.beginning_offsets([p for p in places if committed[p].offset < 0])
        return {p.partition: Progress(ends[p], max(committed[p].offset, begins.get(p, 0))) for p in places}

    async def close(self) -> None:
        """Close the connections, within bounded time."""
        open_, self._admin, self._consumer = (self._admin, self._consumer), None, None
        with suppress(KafkaError, TimeoutError, OSError):
            async with asyncio.timeout(_READ_S):
                if open_[0] is not None:
                    await open_[0].close()
                if open_[1] is not None:
                    await open_[1].stop()


@asynccontextmanager
async def open_receipt_progress(bootstrap: str, topic: str, group: str) -> AsyncIterator[KafkaReceiptProgress]:
    """Yield progress that connects at its first reading."""
    progress = KafkaReceiptProgress(bootstrap, topic, group)
    try:
        yield progress
    finally:
        await progress.close()
