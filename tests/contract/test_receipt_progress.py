"""Progress of the status stage in the receipts, as the broker tells it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from adapters.kafka.producer import open_log
from adapters.kafka.receipt_progress import open_receipt_progress
from domain.errors import Unavailable
from domain.receipts import Progress
from runtime.kafka_settings import Kafka
from schemas.codec import record
from schemas.events import ReceiptRecorded
from schemas.ids import new_id
from stack.running import RunningStack
from tests import make
from tests.fault.topics import ends
from verify.fault_proxy import open_proxy


def receipt() -> ReceiptRecorded:
    """Return one that the stage drops: of no member."""
    return ReceiptRecorded(conversation_id=new_id(), user_id="nobody", delivered_seq=1, at=make.AT)


def reached(found: Mapping[int, Progress], ends: Mapping[int, Progress]) -> bool:
    return all(found[number].stored >= each.end for number, each in ends.items())


async def test_what_the_stage_has_taken_counts_as_stored(stack: RunningStack):
    async with open_log(stack.kafka) as log, open_receipt_progress(stack.kafka, receipt().TOPIC, "status") as progress:
        before = await progress.read()
        assert set(before) == set(await ends(stack.kafka, receipt().TOPIC))
        await log.append([record(receipt(), producer="test") for _ in range(30)])
        after = await progress.read()
        assert sum(each.end for each in after.values()) >= sum(each.end for each in before.values()) + 30
        async with asyncio.timeout(20):
            while not reached(await progress.read(), after):  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def test_of_a_group_that_never_committed_everything_is_under_way(stack: RunningStack):
    async with open_log(stack.kafka) as log, open_receipt_progress(stack.kafka, receipt().TOPIC, new_id()) as progress:
        await log.append([record(receipt(), producer="test")])
        found = await progress.read()
        assert any(each.stored < each.end for each in found.values())
        assert all(each == Progress(each.end, each.stored) and each.stored >= 0 for each in found.values())


async def test_a_broker_that_does_not_answer_is_unavailable_and_is_found_again(stack: RunningStack):
    port = stack.kafka.bootstrap.rpartition(":")[2]
    async with (
        open_proxy(int(port)) as link,
        open_receipt_progress(Kafka(bootstrap=f"127.0.0.1:{link.port}"), receipt().TOPIC, "status") as progress,
    ):
        link.refuse()
        with pytest.raises(Unavailable):
            await progress.read()
        await link.heal()
        assert await progress.read()


async def test_a_coordinator_that_loads_the_group_is_unavailable(stack: RunningStack, monkeypatch: pytest.MonkeyPatch):
    """A loading coordinator answers with an error of the group and no partition; aiokafka hides the error."""
    ask = AIOKafkaAdminClient.list_consumer_group_offsets

    async def of_no_partition(self: AIOKafkaAdminClient, group: str, **_: Any) -> Any:
        return await ask(self, group, partitions=[])

    async with open_receipt_progress(stack.kafka, receipt().TOPIC, new_id()) as progress:
        with monkeypatch.context() as patch:
            patch.setattr(AIOKafkaAdminClient, "list_consumer_group_offsets", of_no_partition)
            with pytest.raises(Unavailable, match="it is unknown which receipts are in the store"):
                await progress.read()
        assert await progress.read()
