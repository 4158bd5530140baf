"""Position of a real log, read over a long way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import client as aiokafka_client

from adapters.kafka.log_position import open_positions
from runtime.kafka_settings import Kafka
from schemas.topics import load
from verify.fault_proxy import open_proxy


@pytest.mark.slow
async def test_a_broker_that_is_far_away_is_read_within_the_silence_that_the_relay_may_keep(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch
):
    connect = aiokafka_client.create_conn

    async def by_the_long_way(host: str, _: int, **more: Any) -> Any:
        return await connect(host, proxy.port, **more)

    async with open_proxy(int(kafka.bootstrap.rpartition(":")[2])) as proxy:
        monkeypatch.setattr(aiokafka_client, "create_conn", by_the_long_way)
        proxy.slow(0.4)
        async with open_positions(kafka, load(), "relay") as positions:
            for _ in range(2):
                async with asyncio.timeout(15):
                    assert (await positions.read()).ends
