"""Client by which a stage reads Kafka, on the stage's own event loop. For faust-streaming 0.15.3 exactly.

Stands where Faust has ``AIOKafkaConsumerThread`` (``faust/transport/drivers/aiokafka.py``), which runs a second loop in
a thread and hands every call, answer and fetch over from one to the other. It has what Faust asks of its thread in an
app without tables, transactions and topics of Faust's making. Heartbeats share the loop, so nothing may hold it up for
seconds.

Added are a seek to the beginning where nothing is committed yet, and fetches for which the broker gathers records for
as long as the policy of the stage allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import CommitFailedError, KafkaError
from faust.exceptions import ConsumerNotStarted
from faust.transport.consumer import ensure_TPset
from faust.transport.drivers import aiokafka as driver
from mode import Service

from adapters.kafka.closing import close
from adapters.kafka.refusals import unavailable

_FULL_FETCH = 1024 * 1024
_FETCH_MAX_WAIT_S = 1.5


class StageClient(Service):  # type: ignore[misc]
    """Member of the stage's group. Faust starts and stops it with its consumer."""

    logger = driver.logger

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        self.consumer, self.app = consumer, consumer.app
        self._client: AIOKafkaConsumer | None = None
        super().__init__(**kwargs)

    async def on_start(self) -> None:
        """Connect. Raises Unavailable."""
        self._client = self.new_client()
        try:
            await self._client.start()
        except KafkaError as exc:
            await self._leave()
            raise unavailable(exc) from exc
        self.add_future(self._leave_after_a_crash())

    async def on_stop(self) -> None:
        """Leave the group; the consumer has made its last commit."""
        await self._leave()

    async def _leave_after_a_crash(self) -> None:
        """Leave the group when a part of the app has crashed: the process ends, and others need not wait for that."""
        await self.wait_until_stopped()
        if self.crashed:
            await self._leave()

    async def _leave(self) -> None:
        if self._client is not None:
            await close(self._client.stop())

    def new_client(self) -> AIOKafkaConsumer:
        """Return a client that is not connected yet."""
        conf = self.app.conf
        return AIOKafkaConsumer(
            **self.app.access,
            client_id=conf.broker_client_id,
            group_id=conf.id,
            partition_assignment_strategy=[RoundRobinPartitionAssignor],
            enable_auto_commit=False,
            auto_offset_reset=conf.consumer_auto_offset_reset,
            max_poll_records=conf.broker_max_poll_records,
            max_poll_interval_ms=int(1000 * conf.broker_max_poll_interval),
            max_partition_fetch_bytes=conf.consumer_max_fetch_size,
            fetch_max_wait_ms=int(1000 * _FETCH_MAX_WAIT_S),
            request_timeout_ms=int(1000 * conf.broker_request_timeout),
            session_timeout_ms=int(1000 * conf.broker_session_timeout),
            rebalance_timeout_ms=int(1000 * conf.broker_rebalance_timeout),
            heartbeat_interval_ms=int(1000 * conf.broker_heartbeat_interval),
            metadata_max_age_ms=conf.consumer_metadata_max_age_ms,
        )

    def _started_client(self) -> AIOKafkaConsumer:
        if self._client is None:
            raise ConsumerNotStarted("the client of the stage has not started")
        return self._client

    @property
    def generation(self) -> int:
        """The generation of the group that this member is in."""
        return int(self._started_client()._coordinator.generation)

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Join the group, as a reader of these topics."""
        self._started_client().subscribe(topics=set(topics), listener=_Listener(self))

    def assignment(self) -> set[Any]:
        """Return the partitions that the group has given to this member."""
        return set(ensure_TPset(self._started_client().assignment()))

    async def getmany(self, active_partitions: Iterable[Any], timeout: float) -> Mapping[Any, Sequence[Any]]:
        """Return records by partition; none after so many seconds. Raises KafkaError, also for trouble of the group."""
        partitions = [TopicPartition(*tp) for tp in active_partitions]
        found = dict(await self._started_client().getmany(*partitions, timeout_ms=int(1000 * timeout)))
        self._gather(is_busy=bool(found))
        return found

    def _gather(self, *, is_busy: bool) -> None:
        """Have the broker gather records for a fetch while there are some; at rest a fetch waits for the first one.

        A stage at rest would else ask five times a second. aiokafka takes both values once, for all fetches.
        """
        fetcher, gathers = self._started_client()._fetcher, is_busy and self.app.gather_s > 0
        fetcher._fetch_max_wait_ms = int(1000 * (self.app.gather_s if gathers else _FETCH_MAX_WAIT_S))
        fetcher._fetch_min_bytes = _FULL_FETCH if gathers else 1

    async def commit(self, offsets: Mapping[Any, int]) -> bool:
        """Commit positions; return False when the group was rebalanced meanwhile. Any other failure crashes the app."""
        mine = self.assignment()
        positions = {TopicPartition(*tp): offset for tp, offset in offsets.items() if tp in mine}
        if not positions:
            return False
        try:
            await self._started_client().commit(positions)
        except CommitFailedError:
            return False
        except Exception as exc:
            await self.crash(exc)
            return False
        return True

    def seek(self, partition: Any, offset: int) -> None:
        """Move the position of a partition."""
        self._started_client().seek(TopicPartition(*partition), offset)

    async def seek_to_committed(self) -> Any:
        """Rewind all assigned partitions; return their committed positions."""
        return await rewind(self._started_client())

    async def earliest_offsets(self, *partitions: Any) -> Mapping[Any, int]:
        """Return where the partitions begin."""
        return dict(await self._started_client().beginning_offsets([TopicPartition(*tp) for tp in partitions]))

    async def highwaters(self, *partitions: Any) -> Mapping[Any, int]:
        """Return where the partitions end."""
        return dict(await self._started_client().end_offsets([TopicPartition(*tp) for tp in partitions]))

    def close(self) -> None:
        """Do nothing: Faust asks for it in a rebalance while the app stops, and the last commit is still to come."""


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Listener that tells the app what the group takes and gives. aiokafka waits for it, while heartbeats go on."""

    def __init__(self, client: StageClient) -> None:
        self._client = client

    async def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
        self._client.app.on_rebalance_start()
        await self._client.consumer.on_partitions_revoked(ensure_TPset(revoked))

    async def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        generation = self._client.app.consumer_generation_id = self._client.generation
        await self._client.consumer.on_partitions_assigned(ensure_TPset(assigned), generation)


async def rewind(client: AIOKafkaConsumer) -> Any:
    """Seek to the committed positions of an AIOKafkaConsumer, and to the beginning of partitions that have none.

    aiokafka's ``seek_to_committed`` leaves the latter where they are, behind records that were fetched and dropped.
    """
    committed = await client.seek_to_committed()
    unread = [tp for tp, offset in committed.items() if not offset or offset < 0]
    if unread:
        await client.seek_to_beginning(*unread)
    return committed
