"""Rows 54-56: PostgreSQL goes back in time, or a replica takes over, under clients that go on."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest

from stack.running import RunningStack
from stack.servers.postgres_files import binaries
from tests.fault.chat import Chat, open_chat
from tests.fault.judging import OK, Attempt
from tests.fault.processes import ROOT, cluster_of, pid_of, restarted
from verify.faults.process import send
from verify.testbed import open_testbed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


async def millrace(stack: RunningStack, *words: str) -> dict[str, Any]:
    """Run a command; return what it prints as JSON."""
    command = [sys.executable, "-m", "cli.main", *words, "--data", str(stack.data), "--json"]
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout, done.stderr
    return dict(json.loads(done.stdout))


async def base_backup(stack: RunningStack, copy: Path) -> None:
    command = [str(binaries() / "pg_basebackup"), "-d", stack.pg_dsn, "-D", str(copy), "-X", "stream", "-c", "fast"]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


async def restore(stack: RunningStack, copy: Path) -> None:
    """Put the copy in the place of the server's folder, and kill the server."""
    folder, before = cluster_of(stack, "postgres"), pid_of(stack, "postgres")
    assert before is not None
    made, owner = folder.with_name(f"{folder.name}.restored"), folder.stat()
    await asyncio.to_thread(shutil.copytree, copy, made, symlinks=True)
    for path in (made, *made.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)
    made.chmod(0o700)
    lost = folder.rename(folder.with_name(f"{folder.name}.lost"))
    send([before], signal.SIGKILL)
    made.rename(folder)
    await restarted(stack, "postgres", before, 60)
    await asyncio.to_thread(shutil.rmtree, lost, ignore_errors=True)


async def is_degraded(stack: RunningStack) -> None:
    """Return once the status says what is wrong, and what to do."""
    async with asyncio.timeout(60):
        while not any("millrace recover" in each for each in (await millrace(stack, "status"))["warnings"]):  # noqa: ASYNC110
            await asyncio.sleep(0.5)


async def is_ready(stack: RunningStack) -> None:
    async with asyncio.timeout(120):
        while (await millrace(stack, "status"))["state"] != "ready":  # noqa: ASYNC110
            await asyncio.sleep(0.5)


async def again(chat: Chat, attempts: list[Attempt]) -> list[Attempt]:
    """The same posts once more."""
    return [await chat.post(each.room, each.content, sender=each.sender, key=each.key) for each in attempts]


async def repeat_what_was_never_published(chat: Chat) -> None:
    """Clients send again what was accepted in the last moments of the old store: of that no log knows."""
    stored = {(row.sender, row.key) for row in chat.stored().rows}
    lacking = [each for each in chat.attempts if each.status in OK and (each.sender, each.key) not in stored]
    logged = {orjson.loads(record.value)["message"]["messageId"] for record in await chat.created()}
    assert [each for each in lacking if each.said["messageId"] in logged] == []
    await again(chat, lacking)


def everything_is_right(chat: Chat) -> None:
    """Each accepted message is in the store once, the change logs are dense, and each screen is what the store has."""
    stored = chat.stored()
    rows = Counter((row.sender, row.key) for row in stored.rows)
    accepted = {(each.sender, each.key) for each in chat.attempts if each.status in OK}
    assert {key: rows[key] for key in accepted} == dict.fromkeys(accepted, 1)
    assert set(rows) <= {(each.sender, each.key) for each in chat.attempts}
    for room, head in stored.heads.items():
        assert [seq for id_, seq in stored.changes if id_ == room] == list(range(1, head + 1))
        ids = {row.seq: row.message_id for row in stored.rows if row.room == room}
        for watcher in chat.watchers:
            if watcher.room == room:
                screen = watcher.screen
                assert list(screen.seen.seqs) == list(range(1, head + 1))
                frames = {seq: orjson.loads(raw) for seq, raw in screen.raw.items()}
                shown = {seq: frame["message"]["messageId"] for seq, frame in frames.items() if "message" in frame}
                assert shown == ids


def recoveries(stack: RunningStack) -> list[dict[str, Any]]:
    with psycopg.connect(stack.pg_dsn) as conn:
        query = "SELECT result FROM operator_actions WHERE command = 'recover' ORDER BY action_id"
        return [row[0] for row in conn.execute(query)]


async def test_row_54_a_base_backup_is_restored_and_the_log_gives_back_what_it_lacks(tmp_path: Path):
    async with open_testbed(cluster=False, environment={}, keep=False, seed=54) as testbed:
        stack = testbed.stack
        async with open_chat(stack) as chat:
            await chat.say(60)
            await chat.settled(60)
            await base_backup(stack, tmp_path / "copy")
            await chat.say(90)
            await chat.settled(60)
            lost = [each for each in chat.attempts if each.status in OK][-90:]
            load = asyncio.create_task(chat.say(90, pace_s=0.3))  # it goes on meanwhile
            await restore(stack, tmp_path / "copy")
            resent = await again(chat, lost[-10:])
            await is_degraded(stack)
            await load
            would = await millrace(stack, "recover", "--dry-run")
            assert would["messages"] >= 60
            done = await millrace(stack, "recover", "--yes")
            assert done["gone"] == {"entries": 0, "events": 0, "trimmed": 0}
            assert done["resent"] >= len(resent)
            assert (await millrace(stack, "recover", "--yes"))["messages"] == 0
            assert [each["messages"] for each in recoveries(stack)] == [done["messages"], 0]
            await repeat_what_was_never_published(chat)
            before = {(each.sender, each.key): each.said["messageId"] for each in lost[:20]}
            repeated = await again(chat, lost[:20])
            assert {(each.sender, each.key): each.said["messageId"] for each in repeated} == before
            await chat.settled(180)
            await is_ready(stack)
            assert all(watcher.screen.resets for watcher in chat.watchers)
            everything_is_right(chat)
            await chat.say(30)
            await chat.settled(60)
            everything_is_right(chat)


async def test_row_55_a_replica_that_lagged_is_promoted_and_the_log_gives_back_what_it_lacks():
    async with open_testbed(cluster=True, environment={}, keep=False, seed=55) as testbed:
        stack = testbed.stack
        async with open_chat(stack) as chat:
            await chat.say(40)
            await chat.settled(60)
            testbed.proxies["postgres-replica"].black_hole()
            await chat.say(60)
            await chat.settled(60)
            lost = [each for each in chat.attempts if each.status in OK][-60:]
            load = asyncio.create_task(chat.say(60, pace_s=0.3))
            await millrace(stack, "promote", "--yes")
            await testbed.proxies["postgres-replica"].heal()
            await is_degraded(stack)
            await load
            done = await millrace(stack, "recover", "--yes")
            assert done["messages"] >= 60
            assert done["gone"]["entries"] == done["gone"]["events"] == done["gone"]["trimmed"] == 0
            await repeat_what_was_never_published(chat)
            before = {(each.sender, each.key): each.said["messageId"] for each in lost[:20]}
            repeated = await again(chat, lost[:20])
            assert {(each.sender, each.key): each.said["messageId"] for each in repeated} == before
            await chat.settled(120)
            everything_is_right(chat)


async def test_row_56_a_synchronous_replica_is_promoted_and_nothing_is_lost():
    async with open_testbed(cluster=True, environment={}, keep=False, seed=56, options=["--synchronous"]) as testbed:
        stack = testbed.stack
        async with open_chat(stack) as chat:
            load = asyncio.create_task(chat.say(200, pace_s=0.1))
            while sum(each.status in OK for each in chat.attempts) < 60:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            await millrace(stack, "promote", "--yes")
            await load
            await is_ready(stack)
            await chat.settled(120)
            assert (await millrace(stack, "recover", "--yes"))["messages"] == 0
            everything_is_right(chat)
            await chat.verdict()
