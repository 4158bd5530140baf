"""Rows 7 to 13: the store dies, stands still, or is cut off."""

from __future__ import annotations

import asyncio
import signal
import time

import httpx2
import psycopg
import pytest

from stack.running import RunningStack
from tests.fault.chat import open_chat
from tests.fault.conftest import Beside
from tests.fault.judging import OK
from tests.fault.processes import all_shards_owned, evict_relays, lives_of, pid_of, restarted
from verify.fault_proxy import Trap, open_proxy
from verify.faults import Target, fault
from verify.faults.network import ACCEPTED, ACCEPTING
from verify.faults.process import send


async def test_row_07_the_store_is_killed_under_load_and_all_goes_on_by_itself(stack: RunningStack, target: Target):
    async with open_chat(stack) as chat:
        load = asyncio.create_task(chat.say(240, pace_s=0.1))
        while len(chat.attempts) < 60:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        killed, before = time.monotonic(), pid_of(stack, "postgres")
        await fault("kill-postgres").inject(target)
        await load
        await restarted(stack, "postgres", before)
        failed = [each for each in chat.attempts if each.status not in OK]
        assert {each.status for each in failed} <= {503}
        back = min(each.ended for each in chat.attempts if each.status in OK and each.began > killed)
        assert back - killed < 10
        await chat.settled(60)
        await chat.verdict()


async def test_row_09_a_connection_cut_at_commit_is_unknown_and_the_retry_tells(stack: RunningStack, beside: Beside):
    async with open_proxy() as proxy, open_chat(stack, rooms=1) as chat:
        ingest, [room] = await beside("ingest", pg=proxy), chat.rooms
        # The commit arrives, its answer does not; then the commit does not arrive.
        for way, trap, stored in (
            (proxy.down, Trap(pattern=ACCEPTED), True),
            (proxy.up, Trap(pattern=ACCEPTING), False),
        ):
            way.trap = trap
            cut = await chat.attempt(room, f"stored: {stored}", door=ingest.http_url)
            assert trap.sprung.is_set()
            assert (cut.status, cut.said.get("outcome")) == (503, "unknown")
            again = await chat.post(room, cut.content, key=cut.key)
            assert (again.status, again.replayed) == ((200, True) if stored else (201, False))
            assert (await chat.attempt(room, "next", door=ingest.http_url)).status == 201
        await chat.settled()
        await chat.verdict()


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("meanwhile", [[], ["ingest", "status"], ["gateway", "search", "audit"]])
async def test_row_07b_a_store_that_is_told_to_end_ends_and_all_goes_on_by_itself(
    stack: RunningStack, meanwhile: list[str]
):
    """By SIGTERM, which PostgreSQL heeds only when its last session has ended; some processes must start meanwhile."""
    async with open_chat(stack) as chat:
        load = asyncio.create_task(chat.say(240, pace_s=0.1))
        while len(chat.attempts) < 60:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        before, lives = pid_of(stack, "postgres"), {name: lives_of(stack, name) for name in meanwhile}
        assert before is not None
        began = time.monotonic()
        send([before], signal.SIGTERM)
        send([pid for name in meanwhile if (pid := pid_of(stack, name))], signal.SIGKILL)
        await restarted(stack, "postgres", before)
        assert time.monotonic() - began < 15
        await load
        assert {each.status for each in chat.attempts} <= {*OK, 503, *([None] if "ingest" in meanwhile else [])}
        await chat.settled(60)
        await chat.verdict()
        assert {name: lives_of(stack, name) for name in meanwhile} == {name: n + 1 for name, n in lives.items()}


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_row_07b_the_supervisor_ends_a_store_whose_last_session_never_ends(stack: RunningStack):
    async with open_chat(stack) as chat, await psycopg.AsyncConnection.connect(stack.pg_dsn):
        await chat.say(30)
        before = pid_of(stack, "postgres")
        assert before is not None
        began = time.monotonic()
        send([before], signal.SIGTERM)
        await restarted(stack, "postgres", before)
        assert time.monotonic() - began < 30
        await chat.say(30)
        await chat.settled(60)
        await chat.verdict()


@pytest.mark.slow
async def test_row_07b_an_ingest_that_starts_without_its_store_refuses_calls_and_waits(
    stack: RunningStack, target: Target, beside: Beside
):
    async with open_proxy() as proxy, open_chat(stack, rooms=1) as chat:
        proxy.refuse()
        ingest = await beside("ingest", pg=proxy, wait=False)
        [room] = chat.rooms
        while (await chat.attempt(room, "no port yet", door=ingest.http_url)).status is None:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        began, refused = time.monotonic(), []
        while time.monotonic() < began + 5:  # the outage itself
            refused.append(await chat.attempt(room, "too early", door=ingest.http_url))
        assert {each.status for each in refused} == {503}
        assert {(each.said["code"], each.said.get("outcome")) for each in refused} == {("unavailable", None)}
        async with httpx2.AsyncClient() as client:
            assert (await client.get(f"http://127.0.0.1:{ingest.ops_port}/readyz")).status_code == 503
        await proxy.heal()
        await ingest.ready()
        assert (await chat.attempt(room, "in time", door=ingest.http_url)).status == 201
        await chat.settled()
        await chat.verdict()


@pytest.mark.slow
async def test_row_08_a_store_that_stands_still_is_said_within_seconds_and_leaves_the_pool_whole(
    stack: RunningStack, target: Target
):
    async with open_chat(stack) as chat:
        await chat.say(30)
        await chat.settled()
        [room, *_], standing = chat.rooms, fault("pause-postgres")
        await standing.inject(target)
        try:
            began, kept = time.monotonic(), []
            while time.monotonic() < began + 10:
                kept += await asyncio.gather(*(chat.attempt(room, "while it stands still") for _ in range(4)))
        finally:
            await standing.heal(target)
        assert {each.status for each in kept} == {503}
        assert max(each.ended - each.began for each in kept) < 3.5
        await asyncio.gather(*(chat.post(each.room, each.content, key=each.key) for each in kept))
        for _ in range(2):  # more at once than the pool has connections
            began = time.monotonic()
            await chat.say(100, at_once=32)
            assert time.monotonic() - began < 10
        await chat.settled(60)
        await chat.verdict()


@pytest.mark.slow
async def test_row_11_another_relay_takes_over_when_one_loses_its_session(stack: RunningStack, beside: Beside):
    await beside("ingest")
    async with open_chat(stack) as chat:
        load = asyncio.create_task(chat.say(300, pace_s=0.1))
        for _ in range(4):
            before = await all_shards_owned(stack)
            cut = time.monotonic()
            evict_relays(stack)
            await all_shards_owned(stack, but_not_by=before)
            assert time.monotonic() - cut < 5
        await load
        await chat.settled()
        await chat.verdict()


@pytest.mark.slow
async def test_row_13_a_conversation_that_somebody_has_locked_holds_up_no_other(stack: RunningStack):
    async with open_chat(stack) as chat, await psycopg.AsyncConnection.connect(stack.pg_dsn) as conn:
        locked, *others = chat.rooms
        await conn.execute("SELECT 1 FROM conversations WHERE conversation_id = %s FOR UPDATE", (locked,))
        began, free, held = time.monotonic(), [], []
        while time.monotonic() < began + 5:
            made = await asyncio.gather(*(chat.attempt(room, "meanwhile") for room in (locked, *others)))
            held.append(made[0])
            free += made[1:]
        await conn.rollback()
        assert {each.status for each in free} == {201}
        assert {each.status for each in held} == {503}
        assert max(each.ended - each.began for each in free) < 1
        await asyncio.gather(*(chat.post(each.room, each.content, key=each.key) for each in held))
        await chat.settled()
        await chat.verdict()
