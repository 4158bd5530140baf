"""Clients that look at the log again and again, on connections that stay open while the broker answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from adapters.kafka.access import access
from adapters.kafka.closing import close
from adapters.kafka.refusals import unavailable
from runtime.kafka_settings import Kafka

_log = structlog.get_logger()

_FIRST_S, _READ_S = 12.0, 5.0
_REQUEST_MS = 5_000
"""A reading takes three round trips one after the other, the first one eleven: so a broker that is a second away is
read. Either is shorter than what a silent session of the relay is left alone for: see ``let_go`` of the outbox."""


@dataclass(slots=True)
class HeldClients:
    """An admin client and a consumer without a group, which connect at their first use."""

    kafka: Kafka
    _open: tuple[AIOKafkaAdminClient, AIOKafkaConsumer] | None = None

    @asynccontextmanager
    async def reading(self, unknown: str) -> AsyncIterator[tuple[AIOKafkaAdminClient, AIOKafkaConsumer]]:
        """Yield the clients for one reading. Raises Unavailable, which says what is ``unknown``, in bounded time.

        After any failure the connections are closed: an answer that was not read would be taken for that of the next
        request.
        """
        try:
            async with asyncio.timeout(_FIRST_S if self._open is None else _READ_S):
                yield await self._connected()
        except (KafkaError, TimeoutError, OSError) as exc:
            await self.close()
            raise unavailable(exc, unknown) from exc
        except BaseException:  # cancelled, too
            await self.close()
            raise

    async def _connected(self) -> tuple[AIOKafkaAdminClient, AIOKafkaConsumer]:
        if self._open is None:
            self._open = (
                AIOKafkaAdminClient(**access(self.kafka), request_timeout_ms=_REQUEST_MS),
                AIOKafkaConsumer(**access(self.kafka), request_timeout_ms=_REQUEST_MS),
            )
            await asyncio.gather(*(client.start() for client in self._open))
            _log.debug("kafka_clients_connected", bootstrap=self.kafka.bootstrap)
        return self._open

    async def close(self) -> None:
        """Close the connections, within bounded time."""
        held, self._open = self._open, None
        if held is not None:
            await close(held[0].close(), held[1].stop(), within_s=_READ_S)
