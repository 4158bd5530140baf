"""The client of a stage without a broker: how it starts, and what the app is told, and when."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiokafka import ConsumerRecord
from faust.exceptions import ConsumerNotStarted
from faust.types import TP

from domain.errors import Unavailable
from runtime.kafka_settings import Kafka
from streams.faust_app import build_app
from streams.faust_client import StageClient, _Listener
from streams.stage import Stage

NOBODY = Kafka(bootstrap="127.0.0.1:9")


async def nothing(_: Any) -> list[Any]:
    return []


@pytest.fixture
async def app(tmp_path: Path) -> Any:
    return build_app(Stage("s", (), (), nothing), NOBODY, tmp_path, object())


async def test_a_broker_that_does_not_answer_is_an_error_of_ours(app: Any):
    client: StageClient = app.consumer._thread
    with pytest.raises(ConsumerNotStarted):
        client.assignment()
    with pytest.raises(Unavailable):
        await client.start()
    assert client._client is not None
    assert client._client._closed


async def test_the_client_lives_on_the_loop_of_the_stage(app: Any):
    client: StageClient = app.consumer._thread
    assert client.loop is asyncio.get_running_loop()
    made = client.new_client()
    assert made._loop is client.loop
    made._closed = True  # it was never opened


async def test_the_app_knows_of_a_rebalance_before_anything_else_runs(app: Any):
    order: list[Any] = []

    class Consumer:
        async def on_partitions_revoked(self, revoked: set[TP]) -> None:
            order.append((revoked, app.rebalancing, app.rebalancing_count))

        async def on_partitions_assigned(self, assigned: set[TP], generation: int) -> None:
            order.append((assigned, generation, app.consumer_generation_id))

    class Client(StageClient):
        @property
        def generation(self) -> int:
            return 7

    told = Client(app.consumer)
    told.consumer = Consumer()
    place = TP("t", 0)
    await _Listener(told).on_partitions_revoked({place})
    await _Listener(told).on_partitions_assigned({place})
    assert order == [({place}, True, 1), ({place}, 7, 7)]


@pytest.mark.parametrize("crash", [True, False])
async def test_a_client_leaves_its_group_when_another_part_of_the_app_crashes(app: Any, crash: bool):
    left: list[bool] = []

    class Client(StageClient):
        async def on_start(self) -> None:
            self.add_future(self._leave_after_a_crash())

        async def _leave(self) -> None:
            left.append(True)

    client = Client(app.consumer)
    await client.start()
    await asyncio.sleep(0)
    assert left == []
    if crash:
        client._crash(RuntimeError("another part"))
        async with asyncio.timeout(5):
            while not left:  # noqa: ASYNC110
                await asyncio.sleep(0)
    await client.stop()
    assert left == ([True, True] if crash else [True])


async def test_a_chunk_passes_the_conductor_and_the_stream_of_faust_as_it_is(app: Any):
    """With the real parts of Faust: no byte of it is decoded, it is waited for until it is acked, and acked once."""
    place, consumer = TP("t", 0), app.consumer
    raw = app.topic("t", key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
    stream = app.stream(raw).noack()
    app.topics.acking_topics.add("t")
    app.flow_control.resume()
    records = [ConsumerRecord(*place, offset, 0, 0, b"\xff", None, None, 1, -1, ()) for offset in (5, 7)]
    message = consumer._message(place, records)
    consumer._ring[place].append(message.chunk)
    await app.topics._build_handler(place, {stream.channel})(message)
    events = aiter(stream.events())
    async with asyncio.timeout(5):
        event = await anext(events)
    assert event.message is message
    assert (message.records, message.refcount, message.offset) == (records, 1, 7)
    assert list(consumer._unacked_messages) == [message]
    for _ in records:
        message.chunk.settle(is_done=True)
    assert event.ack()
    assert not event.ack()
    assert list(consumer._unacked_messages) == []
    assert list(consumer._filter_tps_with_pending_acks()) == [place]
    assert consumer._new_offset(place) == 8
    await events.aclose()
