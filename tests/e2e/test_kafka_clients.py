"""What our readers and writers of Kafka do when their connections die in the worst moment."""

from __future__ import annotations

import asyncio

import pytest
import uvloop
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from adapters.kafka.consumer import open_consumer
from adapters.kafka.producer import open_log
from domain.errors import Unavailable
from schemas.codec import Record
from schemas.ids import new_id
from stack.running import RunningStack


def test_a_write_to_a_connection_that_has_just_died_is_a_lost_connection_under_uvloop_too(stack: RunningStack):
    async def write() -> None:
        async with open_log(stack.kafka) as log:
            record = Record("receipt.recorded", new_id().encode(), b"{}")
            await log.append([record])
            assert log._producer is not None
            client = log._producer.client
            for connection in list(client._conns.values()):
                connection._writer.transport.abort()
            await asyncio.sleep(0)
            dead = next(iter(client._conns.values()))
            with pytest.raises(KafkaConnectionError):
                await dead.send(MetadataRequest([]))
            await log.append([record])

    uvloop.run(write())


async def test_a_consumer_whose_reading_has_ended_says_so(stack: RunningStack):
    async with open_consumer(stack.kafka, topics=["receipt.recorded"], group=f"test-{new_id()}") as consumer:
        async with asyncio.timeout(30):
            while not consumer.assigned:  # noqa: ASYNC110 - the group has no event for us
                await asyncio.sleep(0.05)
        consumer._consumer._fetcher._fetch_task.cancel()
        with pytest.raises(Unavailable):
            async with asyncio.timeout(10):
                while True:
                    await consumer.batch(100)


async def test_a_consumer_joins_once_for_one_assignment(stack: RunningStack):
    """Else members that are out of step send each other back for ever: each second request ends the other's wait."""
    async with open_consumer(stack.kafka, topics=["receipt.recorded"], group=f"test-{new_id()}") as consumer:
        async with asyncio.timeout(30):
            while not consumer.assigned:  # noqa: ASYNC110 - the group has no event for us
                await asyncio.sleep(0.05)
        assert consumer._consumer._coordinator.generation == 1


async def test_a_producer_that_was_given_up_takes_no_new_connection(stack: RunningStack):
    async with open_log(stack.kafka) as log:
        record = Record("receipt.recorded", new_id().encode(), b"{}")
        await log.append([record])
        given_up = log._producer
        await log._discard(given_up, "test")
        [node] = {broker.nodeId for broker in given_up.client.cluster.brokers()}
        assert not await given_up.client.ready(node)
        await log.append([record])
