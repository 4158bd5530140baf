"""Closing of Kafka clients: whoever is cancelled meanwhile ends, and waits for a slow client for a bounded time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient

from adapters.kafka.admin import admin, describe
from adapters.kafka.closing import close
from adapters.kafka.consumer import read_topic
from adapters.kafka.held_clients import HeldClients
from adapters.kafka.producer import open_log
from adapters.kafka.raw import write_raw
from adapters.kafka.reader import open_reader
from runtime.kafka_settings import Kafka
from schemas.codec import Record

TOPIC = "message.sent"


@pytest.fixture
async def closing(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[asyncio.Event]:
    """Set as soon as any client of aiokafka begins to close."""
    begun, original = asyncio.Event(), AIOKafkaClient.close

    async def told(self: AIOKafkaClient) -> None:
        begun.set()
        await original(self)

    monkeypatch.setattr(AIOKafkaClient, "close", told)
    yield begun


async def _hold(kafka: Kafka) -> None:
    clients = HeldClients(kafka)
    async with clients.reading("the test"):
        pass
    await clients.close()


async def _append(kafka: Kafka) -> None:
    async with open_log(kafka) as log:
        await log.append([Record(TOPIC, b"key", b"{}", ())])


async def _use(opened: Any) -> None:
    async with opened:
        pass


USES: dict[str, Callable[[Kafka], Awaitable[Any]]] = {
    "raw": lambda kafka: write_raw(kafka, [(TOPIC, b"key", b"{}")]),
    "admin": lambda kafka: _use(admin(kafka)),
    "describe": lambda kafka: describe(kafka, [TOPIC]),
    "held": _hold,
    "log": _append,
    "reader": lambda kafka: _use(open_reader(kafka)),
    "topic": lambda kafka: read_topic(kafka, TOPIC),
}


@pytest.mark.parametrize("use", USES)
async def test_whoever_is_cancelled_while_a_client_closes_ends(use: str, kafka: Kafka, closing: asyncio.Event):
    async def for_ever() -> None:
        while True:
            await USES[use](kafka)

    task = asyncio.create_task(for_ever())
    await asyncio.wait_for(closing.wait(), 30)
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=15)
    assert done and task.cancelled()


async def test_a_client_that_takes_long_is_waited_for_no_longer_and_closes_all_the_same():
    may_end, ended = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        await may_end.wait()
        ended.set()

    await asyncio.wait_for(close(slow(), within_s=0.05), 5)
    assert not ended.is_set()
    may_end.set()
    await asyncio.wait_for(ended.wait(), 5)


async def test_an_error_of_one_client_keeps_no_other_from_closing():
    closed: list[str] = []

    async def fail() -> None:
        raise ConnectionError("the connection is lost")

    async def well() -> None:
        await asyncio.sleep(0)
        closed.append("well")

    await close(fail(), well())
    assert closed == ["well"]
