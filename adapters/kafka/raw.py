"""Raw records: keys and values of any bytes, or none, as a stranger could write them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from adapters.kafka.access import access
from adapters.kafka.closing import close
from adapters.kafka.refusals import unavailable
from runtime.kafka_settings import Kafka

_DEADLINE_S = 10.0
_MAX_REQUEST_BYTES = 5_000_000


async def write_raw(kafka: Kafka, records: Iterable[tuple[str, bytes | None, bytes | None]]) -> None:
    """Write records, each ``(topic, key, value)``; return once they are durable. Raises Unavailable."""
    producer = AIOKafkaProducer(**access(kafka), acks="all", max_request_size=_MAX_REQUEST_BYTES)
    try:
        async with asyncio.timeout(_DEADLINE_S):
            await producer.start()
            await asyncio.gather(*[await producer.send(topic, value, key=key) for topic, key, value in records])
    except (KafkaError, TimeoutError, OSError) as exc:
        raise unavailable(exc, "some of the records may be durable") from exc
    finally:
        await close(producer.stop())
