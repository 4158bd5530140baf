"""Rows 7c, 12b, 18b, 36b: the folder of a server is removed while it works."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from psycopg.conninfo import make_conninfo

from adapters.postgres.replication import is_streaming
from adapters.redis.client import connect, execute
from adapters.redis.target import target
from stack.running import RunningStack, running_stack
from tests.fault.chat import Chat, open_chat
from tests.fault.judging import OK
from tests.fault.processes import ROOT, cluster_of, pid_of, restarted
from verify.faults.process import send
from verify.testbed import open_testbed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def remove(folder: Path) -> None:
    """Remove it although a server writes into it."""
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)


async def lose(stack: RunningStack, chat: Chat, folders: Sequence[tuple[str, Path]]) -> None:
    """Remove the folders of servers under load; return when each has another process, and all messages have arrived."""
    before = {name: pid_of(stack, name) for name, _ in folders}
    load = asyncio.create_task(chat.say(120, pace_s=0.2))
    for _, folder in folders:
        await asyncio.to_thread(remove, folder)
    for name, folder in folders:
        await restarted(stack, name, before[name], 60)
        async with asyncio.timeout(60):
            while not folder.exists():  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    await load
    assert {each.status for each in chat.attempts} <= {*OK, 503}
    await chat.settled(120)
    await chat.say(30)
    await chat.settled(60)


async def test_row_18b_36b_kafka_and_redis_get_new_folders_and_are_filled_again():
    async with open_testbed(cluster=False, environment={}, keep=False, seed=18) as testbed:
        stack = testbed.stack
        kafka, valkey = testbed.data / "kafka", testbed.data / "valkey"
        async with open_chat(stack) as chat:
            await chat.say(60)
            await chat.settled(60)
            await lose(stack, chat, [("valkey", valkey)])
            chat.since = {}  # it is another log
            await lose(stack, chat, [("kafka", kafka)])
            # And once more, with its end.
            before = pid_of(stack, "kafka")
            assert before is not None
            send([before], signal.SIGKILL)
            await asyncio.to_thread(remove, kafka)
            await restarted(stack, "kafka", before, 60)
            await chat.say(30)
            await chat.settled(120)
            await chat.verdict()


async def test_row_12b_18b_36b_a_node_of_each_cluster_gets_a_new_folder_and_takes_its_place():
    async with open_testbed(cluster=True, environment={}, keep=False, seed=12) as testbed:
        stack = testbed.stack
        async with open_chat(stack) as chat:
            await chat.say(60)
            await chat.settled(60)
            await lose(stack, chat, [("valkey-2", testbed.data / "valkey-2")])
            await lose(stack, chat, [("kafka-2", testbed.data / "kafka-2")])
            await lose(stack, chat, [("postgres-replica", cluster_of(stack, "postgres-replica"))])
            await chat.verdict()
        async with asyncio.timeout(120):
            while not (await redis_is_whole(stack) and await replicas_are_in_sync(stack)):  # noqa: ASYNC110
                await asyncio.sleep(0.2)


async def redis_is_whole(stack: RunningStack) -> bool:
    """Each node knows the three, and that all slots are served."""
    to = target(stack.redis_url)
    for address in to.nodes:
        async with connect(to, address) as node:
            info = str(await execute(node, "CLUSTER", "INFO"))
        if "cluster_state:ok" not in info or "cluster_known_nodes:3" not in info:
            return False
    return True


async def replicas_are_in_sync(stack: RunningStack) -> bool:
    """Each partition has its three replicas, and PostgreSQL its own."""
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka.bootstrap)
    await admin.start()
    described = await admin.describe_topics()
    await admin.close()
    in_sync = {len(partition["isr"]) for topic in described for partition in topic["partitions"]}
    port = next(p["port"] for p in running_stack(stack.data).processes if p["name"] == "postgres-replica")
    return in_sync == {3} and await is_streaming(make_conninfo(stack.pg_dsn, port=port))


async def test_row_07c_a_lost_store_is_named_and_never_made_anew():
    async with open_testbed(cluster=False, environment={}, keep=False, seed=7) as testbed:
        stack = testbed.stack
        data = cluster_of(stack, "postgres")
        kept = data.with_name(f"{data.name}.kept")
        async with open_chat(stack) as chat:
            await chat.say(60)
            await chat.settled(60)
            data.rename(kept)
            gone = f"{data} is gone or empty, and with it all messages: put it back from a backup"
            async with asyncio.timeout(40):
                while gone not in (testbed.data / "up.log").read_text():  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
            assert f"warning: postgres could not be started ({gone}" in status(stack)
            assert not data.exists()
            kept.rename(data)  # the backup
            await chat.say(30)
            await chat.settled(120)
            await chat.verdict()


def status(stack: RunningStack) -> str:
    """``millrace status``."""
    command = [sys.executable, "-m", "cli.main", "status", "--data", str(stack.data)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60).stdout
