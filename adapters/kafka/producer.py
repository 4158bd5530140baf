"""Producer: durable appends, in order for each key, and never stuck for ever.

The idempotent producer of aiokafka has no way out of some broker troubles: its batches never expire, and it
does not recover from OutOfOrderSequenceNumber (aiokafka #1101, no KIP-360). So an append has a deadline, and
a producer that misses it is thrown away, with all its batches: nothing that was given up is written later. The fate of
those records is then *unknown*: the caller appends them again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.structs import RecordMetadata

from adapters.kafka.access import access
from adapters.kafka.closing import close
from adapters.kafka.partitions import declared_partition
from adapters.kafka.refusals import unavailable
from runtime.kafka_settings import Kafka
from schemas.codec import Record

_log = structlog.get_logger()

APPEND_DEADLINE_S = 10.0
_STOP_DEADLINE_S = 5.0
_MAX_REQUEST_BYTES = 2_000_000
"""More than a record may have, so that its dead letter, which carries all of it, has room."""


@dataclass(slots=True)
class KafkaLog:
    """EventLog on one idempotent producer, which is rebuilt when it is stuck."""

    kafka: Kafka
    client_id: str
    _producer: AIOKafkaProducer | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def append(self, records: Sequence[Record]) -> Mapping[str, int]:
        """Return once all records are durable. Raises Unavailable; then some of them may be durable too."""
        if not records:
            return {}
        producer: AIOKafkaProducer | None = None
        try:
            async with asyncio.timeout(APPEND_DEADLINE_S):
                producer = await self._ready()
                sent = [await producer.send(r.topic, r.value, key=r.key, headers=list(r.headers)) for r in records]
                return _ends(await asyncio.gather(*sent))
        except (KafkaError, TimeoutError, OSError) as exc:
            await self._discard(producer, type(exc).__name__)
            raise unavailable(exc, "the append was not acknowledged") from exc
        except asyncio.CancelledError:
            await self._discard(producer, "the append was cancelled")
            raise

    async def _ready(self) -> AIOKafkaProducer:
        async with self._lock:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **access(self.kafka),
                    client_id=self.client_id,
                    acks="all",
                    enable_idempotence=True,
                    partitioner=declared_partition,
                    linger_ms=0,
                    max_batch_size=262_144,
                    max_request_size=_MAX_REQUEST_BYTES,
                    request_timeout_ms=10_000,
                    retry_backoff_ms=50,
                )
                try:
                    await producer.start()
                except BaseException:  # cancelled, too: a producer that started half holds connections
                    await _stop(producer)
                    raise
                self._producer = producer
                _log.debug("producer_built", client_id=self.client_id)
            return self._producer

    async def _discard(self, producer: AIOKafkaProducer | None, reason: str) -> None:
        async with self._lock:
            if producer is None or self._producer is not producer:
                return
            self._producer = None
        _log.warning("producer_discarded", client_id=self.client_id, reason=reason)
        await _abort(producer)

    async def close(self) -> None:
        """Stop the producer, within bounded time."""
        if self._producer is not None:
            await _stop(self._producer)
            self._producer = None


def _ends(written: Iterable[RecordMetadata]) -> Mapping[str, int]:
    ends: dict[str, int] = {}
    for at in written:
        place = f"{at.topic}/{at.partition}"
        ends[place] = max(ends.get(place, 0), at.offset + 1)
    return ends


async def _stop(producer: AIOKafkaProducer) -> None:
    await close(producer.stop(), within_s=_STOP_DEADLINE_S)


async def _abort(producer: AIOKafkaProducer) -> None:
    """End a producer at once. Its own ``stop`` would first try to write its batches."""
    producer._closed = True
    sender = producer._sender and producer._sender.sender_task
    if sender is not None:
        sender.cancel()
    producer.client._conns = _NoMore(producer.client._conns)
    await close(producer.client.close(), within_s=_STOP_DEADLINE_S)


class _NoMore(dict[Any, Any]):
    """Connections of a discarded producer. Refuses new ones, over which its batches would still be written."""

    def __setitem__(self, key: Any, connection: Any) -> None:
        connection.close()
        raise KafkaConnectionError("the producer was discarded")


@asynccontextmanager
async def open_log(kafka: Kafka, *, client_id: str = "millrace") -> AsyncIterator[KafkaLog]:
    """Yield a log that connects at its first append, so that a broker may come later."""
    log = KafkaLog(kafka, client_id)
    try:
        yield log
    finally:
        await log.close()
