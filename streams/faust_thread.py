"""Thread in which a stage talks to Kafka. For faust-streaming 0.15.3 exactly.

Added to ``faust/transport/drivers/aiokafka.py``: a setting for how long the broker gathers records for a fetch, and a
seek to the beginning where nothing is committed yet.
"""

from __future__ import annotations

from typing import Any

from faust.transport.drivers import aiokafka as driver

_FULL_FETCH = 1024 * 1024


class StageThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Thread of a stage's consumer."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        client = super()._create_worker_consumer(transport)
        if self.app.gather_s:
            # Lets the broker gather records for as long as the policy of the stage allows.
            client._fetch_max_wait_ms, client._fetch_min_bytes = int(self.app.gather_s * 1000), _FULL_FETCH
        return client

    async def seek_to_committed(self) -> Any:
        """Rewind all assigned partitions; return their committed positions."""
        return await self.call_thread(rewind, self._ensure_consumer())


async def rewind(client: Any) -> Any:
    """Seek to the committed positions of an AIOKafkaConsumer, and to the beginning of partitions that have none.

    aiokafka's ``seek_to_committed`` leaves the latter where they are, behind records that were fetched and dropped.
    """
    committed = await client.seek_to_committed()
    unread = [tp for tp, offset in committed.items() if not offset or offset < 0]
    if unread:
        await client.seek_to_beginning(*unread)
    return committed
