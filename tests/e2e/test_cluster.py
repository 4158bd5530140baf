"""A whole cluster on one machine: nodes of every kind are killed, and nothing that was accepted is lost."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from redis.crc import key_slot

from adapters.redis.slot_client import tagged
from gateway import channels
from stack.ports import allot
from stack.running import RunningStack, running_stack
from stack.servers.data_dir import DataDir
from stack.servers.postgres import Postgres
from stack.servers.replica import NAME as REPLICA
from tests.fault.chat import open_chat
from tests.folders import open_folder
from tests.redis_slots import move_slot
from verify.faults import fault, target_of

from .conftest import ROOT, Person, kill, millrace, person_of, process, status, until
from .test_faults import DAY, accepted_count, logs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

VIA = "kafka-1"


class Forwarder:
    """A port that leads to another one, in a thread; it counts what passes."""

    def __init__(self, port: int, target: Callable[[], int | None]) -> None:
        self.port, self.target, self.passed = port, target, 0
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        self.loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", self.port))
        self.loop.run_forever()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection("127.0.0.1", self.target() or 1)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self._pump(reader, there[1]), self._pump(there[0], writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                self.passed += len(data)
                writer.write(data)
                await writer.drain()
        writer.close()


@contextmanager
def running(data: Path, **environment: str) -> Iterator[RunningStack]:
    """`millrace up --cluster`, ready."""
    command = [sys.executable, "-m", "cli.main", "up", "--cluster", "--data", str(data), "--with-parent", "--json"]
    with (data.parent / "up.log").open("ab") as log:
        up = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, cwd=ROOT, env={**os.environ, **environment})
    try:
        assert up.stdout is not None
        line = up.stdout.readline()
        assert line, (data.parent / "up.log").read_text()[-3000:]
        assert json.loads(line)["state"] == "ready"
        yield running_stack(data)
    finally:
        up.terminate()
        up.wait(90)


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    with open_folder("cluster") as folder:
        made = folder / "data"
        made.mkdir()
        yield made


@pytest.fixture(scope="module")
def forwarder(data: Path) -> Forwarder:
    def target() -> int | None:
        processes = DataDir(data).read("state.json").get("processes", [])
        return next((p["port"] for p in processes if p["name"] == VIA), None)

    return Forwarder(allot(["proxy"], {}, {})["proxy"], target)


@pytest.fixture(scope="module")
def cluster(data: Path, forwarder: Forwarder) -> Iterator[RunningStack]:
    with running(data, MILLRACE_PROXY_PORTS=json.dumps({VIA: forwarder.port})) as stack:
        yield stack


def replica_dsn(cluster: RunningStack) -> str:
    [node] = cluster.nodes(REPLICA)
    assert node.port is not None
    return Postgres(DataDir(cluster.data), node.port).dsn


def topic_states(cluster: RunningStack) -> set[str]:
    listed = millrace("topics", "list", "--json", "--data", str(cluster.data)).stdout
    return {row["state"] for row in json.loads(listed)}


async def test_every_node_serves_and_one_reaches_the_other(cluster: RunningStack, forwarder: Forwarder):
    assert status(cluster)["state"] == "ready"
    counts = {what: len(cluster.nodes(what)) for what in ("kafka", "valkey", "ingest", "gateway", "status", REPLICA)}
    assert counts == {"kafka": 3, "valkey": 3, "ingest": 2, "gateway": 3, "status": 2, REPLICA: 1}
    alice, bob = person_of(cluster, "alice"), person_of(cluster, "bob")
    room = alice.create(bob.user)
    for number, gateway in enumerate(cluster.nodes("gateway"), 1):
        ingest = cluster.nodes("ingest")[number % 2]
        bob.ws_url = gateway.ws_url
        async with bob.live() as at_bob:
            await at_bob.say(type="join_conversation", id=room)
            await at_bob.next("joined")
            alice.http.base_url = httpx2.URL(ingest.http_url)
            alice.send(room, f"message {number}")
            assert (await at_bob.next("new_message"))["seq"] == number
    assert forwarder.passed > 10_000
    rows = json.loads(millrace("topics", "list", "--json", "--data", str(cluster.data)).stdout)
    assert {(row["state"], row["replication"]) for row in rows} == {("ok", 3)}
    agents = json.loads(millrace("agents", "list", "--json", "--data", str(cluster.data)).stdout)
    assert {row["agent"]: row["members"] for row in agents}["gateway"] == 3


def test_a_day_of_chat_survives_kills_of_nodes_of_every_kind(cluster: RunningStack, tmp_path: Path):
    victims = ["kafka-1", "valkey-1", "gateway-1", "ingest-1", "status-1"]
    command = [sys.executable, "-m", "cli.main", "replay-irc", str(logs(tmp_path)), "--days", DAY, "--json"]
    head = {name: process(cluster, name)["restarts"] for name in victims}
    began = accepted_count(cluster)
    replay = subprocess.Popen([*command, "--data", str(cluster.data)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        for number, name in enumerate(victims, 1):
            until(lambda number=number: accepted_count(cluster) > began + 150 * number, 60)
            kill(cluster, name)
        out, _ = replay.communicate(timeout=200)
    finally:
        replay.kill()
    said = json.loads(out)
    assert said["kept"], said["evidence"]
    assert said["delivered"] == said["expected"] > 10_000
    assert {name: process(cluster, name)["restarts"] - head[name] for name in victims} == dict.fromkeys(victims, 1)
    until(lambda: status(cluster)["state"] == "ready", 60)


async def test_row_38_all_gateways_drained_one_after_the_other_show_on_no_screen(cluster: RunningStack):
    names = [node.name for node in cluster.nodes("gateway")]
    before = {name: process(cluster, name)["restarts"] for name in names}
    async with open_chat(cluster, rooms=5) as chat:
        load = asyncio.create_task(chat.say(1000, at_once=4, pace_s=0.1))
        for name in names:
            words = ("gateways", "drain", name, "--over", "4s", "--until-back", "--json", "--data", str(cluster.data))
            done = await asyncio.to_thread(millrace, *words)
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)["state"] == "has ended and is back"
        await load
        await chat.settled(60)
        assert sum(watcher.live.reconnects for watcher in chat.watchers) >= len(chat.watchers)
        told = [said for watcher in chat.watchers for said in watcher.screen.others if said["type"] == "reconnect"]
        assert len(told) >= len(chat.watchers)
        await chat.verdict()
    assert {name: process(cluster, name)["restarts"] - before[name] for name in names} == dict.fromkeys(names, 1)
    rows = json.loads(millrace("gateways", "list", "--json", "--data", str(cluster.data)).stdout)
    assert {row["node"]: row["state"] for row in rows} == dict.fromkeys(names, "serving")


async def test_row_12_a_replica_that_stands_still_makes_no_read_stale(cluster: RunningStack):
    alice = person_of(cluster, "alice")
    room = alice.create()
    with psycopg.connect(replica_dsn(cluster), autocommit=True) as replica:
        replica.execute("SELECT pg_wal_replay_pause()")
        try:
            sent = alice.send(room, "written while the replica stood still")["messageId"]
            for ingest in cluster.nodes("ingest"):
                alice.http.base_url = httpx2.URL(ingest.http_url)
                page = alice.http.get(f"/conversations/{room}/messages").json()
                assert [message["messageId"] for message in page["messages"]] == [sent]
                newest, *_ = alice.http.get("/conversations").json()["conversations"]
                assert (newest["conversationId"], newest["headSeq"]) == (room, page["headSeq"])
            assert replica.execute("SELECT 1 FROM messages WHERE message_id = %s", (sent,)).fetchone() is None
        finally:
            replica.execute("SELECT pg_wal_replay_resume()")
        until(lambda: replica.execute("SELECT 1 FROM messages WHERE message_id = %s", (sent,)).fetchone())
    before = status(cluster)["replica"]["reads"]["replica"]

    def read_again() -> bool:
        assert len(alice.http.get(f"/conversations/{room}/messages").json()["messages"]) == 1
        return bool(status(cluster)["replica"]["reads"]["replica"] > before)

    until(read_again, 20)


async def test_row_18_one_wiped_broker_of_three_is_filled_by_the_others(cluster: RunningStack):
    async with open_chat(cluster, rooms=4) as chat:
        await chat.say(40)
        load = asyncio.create_task(chat.say(200, pace_s=0.1))
        names = [node.name for node in cluster.nodes("kafka")]
        before = {name: process(cluster, name)["restarts"] for name in names}
        await fault("wipe-kafka").inject(target_of(cluster, random.Random(1)))
        await load
        assert {attempt.status for attempt in chat.attempts} <= {200, 201}
        await chat.settled(90)
        await chat.verdict()
    assert sum(process(cluster, name)["restarts"] - before[name] for name in names) == 1
    until(lambda: topic_states(cluster) == {"ok"}, 90)


async def test_row_35_slots_that_move_under_load_lose_nothing(cluster: RunningStack):
    ports = [node.port for node in cluster.nodes("valkey") if node.port is not None]
    async with open_chat(cluster, rooms=6) as chat:
        load = asyncio.create_task(chat.say(300, pace_s=0.05))
        slots = [key_slot(tagged(channels.messages(room)).encode()) for room in chat.rooms]
        for turn in range(3):  # one of them is where a slot is already, two are not
            await asyncio.gather(*(move_slot(cluster.redis_url, slot, ports[turn]) for slot in slots))
        await load
        await chat.settled(60)
        await chat.verdict()


def test_the_replica_has_what_the_primary_has(cluster: RunningStack):
    alice = person_of(cluster, "alice")
    sent = alice.send(alice.create(), "to be copied")
    kill(cluster, REPLICA)  # it goes on from where it was
    dsn = replica_dsn(cluster)

    def copied() -> Any:
        with suppress(psycopg.OperationalError), psycopg.connect(dsn) as conn:
            return conn.execute("SELECT 1 FROM messages WHERE message_id = %s", (sent["messageId"],)).fetchone()

    until(copied)

    def followers() -> list[tuple[Any, ...]]:
        statement = "SELECT usename, rolsuper FROM pg_stat_replication JOIN pg_roles ON rolname = usename"
        with psycopg.connect(cluster.pg_dsn) as conn:
            return conn.execute(statement).fetchall()

    until(lambda: followers() == [("replica", False)])


def test_the_whole_stack_comes_back_with_its_data(data: Path):
    """Last: it ends the stack of the other tests."""
    refused = millrace("up", "--cluster", "--data", str(data))
    assert (refused.returncode, "runs in" in refused.stderr) == (1, True)
    before = running_stack(data)
    alice = person_of(before, "alice")
    room = alice.create()
    alice.send(room, "kept")
    assert millrace("down", "--data", str(data)).returncode == 0
    other = millrace("up", "--data", str(data))
    assert (other.returncode, "add --cluster" in other.stderr) == (1, True)
    with running(data) as stack:
        again: Person = person_of(stack, "alice")
        again.http.headers["Authorization"] = f"Bearer {alice.token}"
        assert [m["content"] for m in again.http.get(f"/conversations/{room}/messages").json()["messages"]] == ["kept"]
        rows = json.loads(millrace("agents", "list", "--json", "--data", str(data)).stdout)
        assert sum(row["lag"] for row in rows) == 0 or until(lambda: status(stack)["state"] == "ready")
