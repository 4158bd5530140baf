"""Writing to Kafka: durable, in order for each key, and never stuck for ever.

The idempotent producer of aiokafka has no way out of some broker troubles: its batches never expire, and it
does not recover from OutOfOrderSequenceNumber (aiokafka #1101, no KIP-360). So an append has a deadline, and
a producer that misses it is thrown away, with all it still holds: nothing that was given up is written later. What it
held is then *unknown*: the caller appends it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.structs import RecordMetadata

from adapters.kafka.uvloop_patch import mend
from domain.errors import Unavailable
from schemas.codec import Record

_log = structlog.get_logger()

APPEND_DEADLINE_S = 10.0
_STOP_DEADLINE_S = 5.0
_MAX_REQUEST_BYTES = 2_000_000
"""More than a record may have, so that its dead letter, which carries it whole, has room."""


@dataclass(slots=True)
class KafkaLog:
    """An EventLog on one idempotent producer, which is rebuilt when it is stuck."""

    bootstrap: str
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
            await self._discard(producer)
            raise Unavailable("Kafka did not acknowledge") from exc
        except asyncio.CancelledError:
            await self._discard(producer)
            raise

    async def _ready(self) -> AIOKafkaProducer:
        async with self._lock:
            if self._producer is None:
                mend()
                producer = AIOKafkaProducer(
                    bootstrap_servers=self.bootstrap,
                    client_id=self.client_id,
                    acks="all",
                    enable_idempotence=True,
                    linger_ms=0,
                    max_batch_size=262_144,
                    max_request_size=_MAX_REQUEST_BYTES,
                    request_timeout_ms=10_000,
                    retry_backoff_ms=50,
                )
                try:
                    await producer.start()
                except BaseException:  # cancelled, too: what was half started holds connections
                    await _stop(producer)
                    raise
                self._producer = producer
            return self._producer

    async def _discard(self, producer: AIOKafkaProducer | None) -> None:
        async with self._lock:
            if producer is None or self._producer is not producer:
                return
            self._producer = None
        _log.warning("producer discarded")
        await _abort(producer)

    async def close(self) -> None:
        """Give up the producer; bounded."""
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
    with suppress(KafkaError, TimeoutError, OSError):
        async with asyncio.timeout(_STOP_DEADLINE_S):
            await producer.stop()


async def _abort(producer: AIOKafkaProducer) -> None:
    """End it at once. Its own ``stop`` would first try to write what it holds."""
    producer._closed = True
    sender = producer._sender and producer._sender.sender_task
    if sender is not None:
        sender.cancel()
    producer.client._conns = _NoMore(producer.client._conns)
    with suppress(KafkaError, TimeoutError, OSError):
        async with asyncio.timeout(_STOP_DEADLINE_S):
            await producer.client.close()


class _NoMore(dict[Any, Any]):
    """A client's connections, once it was given up: one that comes about later would still write what it held."""

    def __setitem__(self, key: Any, connection: Any) -> None:
        connection.close()
        raise KafkaConnectionError("the producer was given up")


@asynccontextmanager
async def open_log(bootstrap: str, *, client_id: str = "millrace") -> AsyncIterator[KafkaLog]:
    """A log that connects at its first append, so that a broker may come later."""
    log = KafkaLog(bootstrap, client_id)
    try:
        yield log
    finally:
        await log.close()
