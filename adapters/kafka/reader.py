"""Reader of a part of the log outside any group: bounded, and no committed position moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import inf
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from adapters.kafka.access import access
from adapters.kafka.closing import close
from adapters.kafka.consumer import Received
from adapters.kafka.header_patch import patch_header_names
from adapters.kafka.metadata import partitions_of
from adapters.kafka.refusals import unavailable
from domain.audit import Begins, LogBegin
from domain.errors import Unavailable
from runtime.kafka_settings import Kafka
from schemas.codec import headers_of

_BATCH = 2_000
_STALLED_S = 20.0


@dataclass(slots=True)
class KafkaReader:
    """Reads from an offset to the end as it is at the start."""

    _consumer: AIOKafkaConsumer

    async def begins(self, topics: Collection[str], since_ms: int) -> Begins:
        """Return the offsets at which to read the records of each partition since then.

        Raises Unavailable, also when a topic does not exist.
        """
        try:
            async with asyncio.timeout(_STALLED_S):
                tps = await self._partitions(topics)
                logs = await self._consumer.beginning_offsets(tps)
                ends = await self._consumer.end_offsets(tps)
                found = await self._consumer.offsets_for_times(dict.fromkeys(tps, since_ms))
        except (KafkaError, TimeoutError, OSError) as exc:
            raise unavailable(exc) from exc
        begins: dict[str, dict[int, LogBegin]] = {topic: {} for topic in topics}
        for tp in tps:
            at = found[tp]
            offset, first = (ends[tp], inf) if at is None else (at.offset, float(at.timestamp))
            begins[tp.topic][tp.partition] = LogBegin(offset, first if offset == logs[tp] else 0.0)
        trimmed = {tp for tp in tps if logs[tp] > 0}
        return Begins({topic: _whole(topic, begins[topic], trimmed) for topic in topics})

    async def _partitions(self, topics: Collection[str]) -> list[TopicPartition]:
        found = await partitions_of(self._consumer, topics)
        for topic, places in found.items():
            if not places:
                raise Unavailable(f"the broker has no topic {topic}; run `millrace topics apply`")
        return [place for places in found.values() for place in places]

    async def read(self, offsets: Mapping[tuple[str, int], int]) -> AsyncIterator[Sequence[Received]]:
        """Yield the records of these (topic, partition), from the offset to the end as it is now, each in its order.

        Raises Unavailable.
        """
        tps = {TopicPartition(*place): offset for place, offset in offsets.items()}
        try:
            ends = await self._consumer.end_offsets(list(tps))
            left = {tp: ends[tp] for tp, offset in tps.items() if offset < ends[tp]}
            self._consumer.assign(list(left))
            for tp in left:
                self._consumer.seek(tp, tps[tp])
            while left:
                yield await self._some(left)
        except (KafkaError, TimeoutError, OSError) as exc:
            raise unavailable(exc) from exc

    async def _some(self, left: dict[TopicPartition, int]) -> list[Received]:
        """Return the next records; remove partitions from ``left`` that are read to their ends."""
        async with asyncio.timeout(_STALLED_S):
            fetched: Mapping[TopicPartition, Sequence[Any]] = {}
            while not fetched and left:
                fetched = await self._consumer.getmany(*left, timeout_ms=200, max_records=_BATCH)
                for tp in list(left):
                    if await self._consumer.position(tp) >= left[tp]:
                        del left[tp]
                        self._consumer.pause(tp)
        return [
            Received(m.topic, m.partition, m.offset, m.key, m.value, headers_of(m.headers))
            for messages in fetched.values()
            for m in messages
        ]


def _whole(topic: str, begins: Mapping[int, LogBegin], trimmed: Collection[TopicPartition]) -> list[LogBegin]:
    """Return the begins with the time since which each partition is complete.

    A partition that starts at offset 0 has lost records only if its whole topic has: then the topic was created again,
    and its first record tells when. Else the partition just held none before.
    """
    mine = {tp.partition for tp in trimmed if tp.topic == topic}
    made_ms = 0.0 if mine else min(begin.first_ms for begin in begins.values())
    return [begin if p in mine else LogBegin(begin.offset, made_ms) for p, begin in sorted(begins.items())]


@asynccontextmanager
async def open_reader(kafka: Kafka, client_id: str = "millrace-audit") -> AsyncIterator[KafkaReader]:
    """Yield a reader outside any group. Raises Unavailable."""
    patch_header_names()
    consumer = AIOKafkaConsumer(
        **access(kafka),
        client_id=client_id,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=20,
        max_partition_fetch_bytes=1024 * 1024,
    )
    try:
        async with asyncio.timeout(_STALLED_S):
            await consumer.start()
    except (KafkaError, TimeoutError, OSError) as exc:
        await close(consumer.stop())
        raise unavailable(exc) from exc
    try:
        yield KafkaReader(consumer)
    finally:
        await close(consumer.stop())
