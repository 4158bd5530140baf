"""Raw records: keys and values of any bytes, or none, as a stranger could write them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from domain.errors import Unavailable

_DEADLINE_S = 10.0
_MAX_REQUEST_BYTES = 5_000_000


async def write_raw(bootstrap: str, records: Iterable[tuple[str, bytes | None, bytes | None]]) -> None:
    """Write records, each ``(topic, key, value)``; return once they are durable. Raises Unavailable."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", max_request_size=_MAX_REQUEST_BYTES)
    try:
        async with asyncio.timeout(_DEADLINE_S):
            await producer.start()
            await asyncio.gather(*[await producer.send(topic, value, key=key) for topic, key, value in records])
    except (KafkaError, TimeoutError, OSError) as exc:
        raise Unavailable("Kafka does not answer; some of the records may be durable") from exc
    finally:
        await producer.stop()
