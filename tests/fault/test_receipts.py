"""Rows 51 and 52: a receipt may die with its gateway, and no watermark goes back on the wire."""

from __future__ import annotations

import asyncio
import signal
from itertools import pairwise
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from gateway.dispatcher import GROUP
from schemas.events import MessageStatus
from stack.running import RunningStack
from tests.fault import topics
from tests.fault.chat import open_chat
from tests.fault.conftest import Beside
from tests.fault.processes import stopped
from tests.fault.sockets import Socket, open_socket


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["read", "ack"])
async def test_row_51_a_receipt_that_dies_with_its_gateway_reaches_the_sender_all_the_same(
    stack: RunningStack, beside: Beside, kind: str
):
    """The node is frozen when the receipt comes, so it dies with it for certain; nothing is said afterwards."""
    gateway = await beside("gateway", node="mortal")
    async with open_chat(stack, rooms=1, members=2, watched=False) as chat:
        [(room, [sender, reader])] = chat.rooms.items()
        async with open_socket(stack.ws_url, chat.token(sender)) as told:
            await told.join(room)
            watcher = await chat.watch(reader, room, gateway.ws_url)
            made = await chat.post(room, "the last that is said here", sender=sender)
            async with asyncio.timeout(10):
                while watcher.subscription.cursor != made.said["seq"]:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            gateway.signal(signal.SIGSTOP)
            watcher.live.urls = stack.ws_url
            await watcher.subscription.acknowledge(read=kind == "read")
            gateway.kill()
            status = await told.next("message_status")
            while kind == "read" and status["status"] != "read":
                status = await told.next("message_status")
            seqs = (status["deliveredSeq"], status["readSeq"])
            assert seqs == (made.said["seq"], made.said["seq"] if kind == "read" else 0)
            assert watcher.live.reconnects == 1


async def begin_anew(stack: RunningStack, topic: str) -> None:
    """Set the group of the gateways back to the first record of a topic, once it has no member."""
    client = AIOKafkaAdminClient(bootstrap_servers=stack.kafka.bootstrap)
    await client.start()
    try:
        async with asyncio.timeout(60):
            while True:
                [answer] = await client.describe_consumer_groups([GROUP])
                if not answer.groups[0][5]:
                    break
                await asyncio.sleep(0.2)
    finally:
        await client.close()
    await topics.commit(stack.kafka, GROUP, topic, dict.fromkeys(await topics.ends(stack.kafka, topic), 0))


async def statuses(socket: Socket, until: int) -> list[dict[str, Any]]:
    """All frames of status up to one with this delivered seq."""
    found: list[dict[str, Any]] = []
    while not found or found[-1]["deliveredSeq"] < until:
        found.append(await socket.next("message_status"))
    return found


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_row_52_a_gateway_group_that_begins_anew_takes_no_watermark_back(stack: RunningStack):
    async with open_chat(stack, rooms=1, members=2, watched=False) as chat:
        [(room, [sender, reader])] = chat.rooms.items()
        async with (
            open_socket(stack.ws_url, chat.token(sender)) as told,
            open_socket(stack.ws_url, chat.token(reader)) as phone,
        ):
            await told.join(room)
            await phone.join(room)
            seen: list[dict[str, Any]] = []
            for number in range(6):
                made = await chat.post(room, f"message {number}", sender=sender)
                await phone.next("new_message")
                await phone.say(type="ack", conversationId=room, seq=made.said["seq"])
                seen += await statuses(told, made.said["seq"])
            head = seen[-1]["deliveredSeq"]
            with stopped(stack, "gateway"):
                await begin_anew(stack, MessageStatus.TOPIC)
            again = await told.next("message_status", seconds=60)  # on the same socket
            made = await chat.post(room, "the last", sender=sender)
            await phone.next("new_message")
            await phone.say(type="read", conversationId=room, seq=made.said["seq"])
            seen += [again, *await statuses(told, made.said["seq"])]
            marks = [(frame["deliveredSeq"], frame["readSeq"]) for frame in seen]
            assert again["deliveredSeq"] == head
            assert all(one <= other for pair in pairwise(marks) for one, other in zip(*pair, strict=True)), marks
