"""A stage on the real broker: killed again and again, it loses nothing, doubles no effect and keeps the order."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import orjson
import pytest

from adapters.kafka.consumer import open_consumer
from adapters.kafka.producer import open_log
from adapters.postgres.conversations import PostgresConversations
from adapters.postgres.intake import PostgresIntake
from adapters.postgres.pool import Pool, open_pool
from domain.event_log import EventLog
from schemas.codec import Record, record
from schemas.events import MessageCreated
from schemas.ids import new_id
from stack.ports import allot
from stack.running import RunningStack
from tests import make

from .conftest import ROOT

MESSAGES, ROOMS, CHUNK = 3000, 12, 60
KILL_AT, POISON_AT = (500, 1300, 2100), 1200
POISON = [b"", b"\xff\x00", b"{}", b'{"message": 7}']


@dataclass
class StatusWorker:
    """One more member of the group ``status``, in a process of its own."""

    stack: RunningStack
    folder: Path
    process: subprocess.Popen[bytes] | None = None
    ops_port: int = 0

    def start(self) -> None:
        self.ops_port = allot(["ops"], {}, {})["ops"]
        env = {
            **os.environ,
            "MILLRACE_NODE": "status-test",
            "MILLRACE_PG__DSN": self.stack.pg_dsn,
            "MILLRACE_KAFKA__BOOTSTRAP": self.stack.kafka.bootstrap,
            "MILLRACE_REDIS__URL": self.stack.redis_url,
            "MILLRACE_OPS__PORT": str(self.ops_port),
            "MILLRACE_DATA_DIR": str(self.folder),
        }
        with (self.folder / "worker.log").open("ab") as log:
            command = [sys.executable, "-m", "streams", "status"]
            self.process = subprocess.Popen(command, env=env, cwd=ROOT, stdout=log, stderr=log)

    def end(self, number: int) -> int:
        """Its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(25)

    async def ready(self) -> None:
        async with httpx2.AsyncClient(timeout=2) as client, asyncio.timeout(60):
            while True:
                assert self.process is not None
                assert self.process.poll() is None, (self.folder / "worker.log").read_text()[-2000:]
                try:
                    if (await client.get(f"http://127.0.0.1:{self.ops_port}/readyz")).status_code == 200:
                        return
                except httpx2.TransportError:
                    pass
                await asyncio.sleep(0.05)


@pytest.fixture
def worker(stack: RunningStack, tmp_path: Path) -> Iterator[StatusWorker]:
    worker = StatusWorker(stack, tmp_path)
    worker.start()
    yield worker
    if worker.process is not None and worker.process.poll() is None:
        worker.end(signal.SIGKILL)


@dataclass
class Flow:
    """Messages in conversations of our own, and what the stage has done with them so far."""

    pool: Pool
    log: EventLog
    rooms: list[str] = field(default_factory=list)
    published: int = 0

    async def open(self) -> None:
        for _ in range(ROOMS):
            self.rooms.append(new_id())
            await PostgresConversations(self.pool).create(self.rooms[-1], None, "alice", ["bob"])

    async def publish(self) -> None:
        """Some more: stored as pending, then told to the stage."""
        drafts = [make.draft(f"n{self.published + n}", conversationId=self.rooms[n % ROOMS]) for n in range(CHUNK)]
        outcomes = await PostgresIntake(self.pool).accept(drafts)
        created = [MessageCreated(message=outcome.message) for outcome in outcomes]
        await self.log.append([record(event, producer="test") for event in created])
        self.published += CHUNK

    async def statuses(self) -> dict[int, int]:
        async with self.pool.connection() as conn:
            cursor = await conn.execute(
                "SELECT status, count(*) FROM messages WHERE conversation_id = ANY(%s::uuid[]) GROUP BY 1",
                (self.rooms,),
            )
            return dict(await cursor.fetchall())

    async def sent(self, at_least: int, seconds: float = 60) -> None:
        """Wait until so many are sent."""
        async with asyncio.timeout(seconds):
            while (await self.statuses()).get(1, 0) < at_least:  # noqa: ASYNC110 - another process does it
                await asyncio.sleep(0.02)


@asynccontextmanager
async def open_flow(stack: RunningStack) -> AsyncIterator[Flow]:
    async with open_pool(stack.pg_dsn) as pool, open_log(stack.kafka, client_id="test") as log:
        flow = Flow(pool, log)
        await flow.open()
        yield flow


async def told(stack: RunningStack, rooms: list[str], messages: int, letters: int) -> tuple[dict, list, int]:
    """First occurrences of ``message.sent`` by conversation, our dead letters, and how many came again."""
    first: defaultdict[str, list[int]] = defaultdict(list)
    dead, again, keys = [], 0, {room.encode() for room in rooms}
    async with open_consumer(stack.kafka, topics=["message.sent", "status.dlq"], group=f"test-{new_id()}") as consumer:
        async with asyncio.timeout(60):
            while sum(map(len, first.values())) < messages or len({d.value for d in dead}) < letters:
                for got in await consumer.batch(1000):
                    if got.key not in keys:
                        continue
                    if got.topic == "status.dlq":
                        dead.append(got)
                        continue
                    seq = orjson.loads(got.value)["message"]["seq"]
                    seen = first[got.key.decode()]
                    again += seq in seen
                    if seq not in seen:
                        seen.append(seq)
    return first, dead, again


@pytest.mark.slow
@pytest.mark.timeout(175)
async def test_a_worker_that_is_killed_again_and_again_loses_nothing(stack: RunningStack, worker: StatusWorker):
    kills = list(KILL_AT)
    async with open_flow(stack) as flow:
        await worker.ready()
        while flow.published < MESSAGES:
            await flow.publish()
            if flow.published == POISON_AT:
                await flow.log.append([Record("message.created", flow.rooms[0].encode(), value) for value in POISON])
            if kills and flow.published >= kills[0]:
                kills.pop(0)
                worker.end(signal.SIGKILL)  # in the middle of what was just published
                worker.start()
            await flow.sent(flow.published - 4 * CHUNK)
        await flow.sent(MESSAGES)
        assert await flow.statuses() == {1: MESSAGES}
        first, dead, again = await told(stack, flow.rooms, MESSAGES, len(POISON))
    assert all(seqs == list(range(1, MESSAGES // ROOMS + 1)) for seqs in first.values())
    assert {letter.value for letter in dead} == set(POISON)
    assert all(dict(letter.headers)["dlq-origin"].startswith(b"message.created/") for letter in dead)
    print(f"{again} of {MESSAGES} were told again")
    await worker.ready()
    assert worker.end(signal.SIGTERM) == 0
