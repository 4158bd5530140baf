"""docs/backup.md: a database is backed up and restored by the lines of the page, and nothing is lost."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from stack.running import RunningStack
from stack.servers.postgres_files import binaries
from tests.fault.chat import open_chat
from tests.fault.processes import ROOT, cluster_of, pid_of, restarted
from tests.fault.test_restored_store import everything_is_right, is_ready
from verify.faults.process import send
from verify.testbed import open_testbed

PAGE = ROOT / "docs" / "backup.md"
BLOCKS = re.findall(r"^```sh\n(.*?)^```\n", PAGE.read_text(), re.MULTILINE | re.DOTALL)


async def paste(script: str, stack: RunningStack, folder: Path) -> str:
    """Run a block of the page; return what it prints."""
    program = folder / "millrace"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cli.main "$@"\n')
    program.chmod(0o755)
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")},
        "PATH": f"{folder}:{binaries()}:{os.environ['PATH']}",
        "MILLRACE_DATA_DIR": str(stack.data),
        "PG": stack.pg_dsn,
        "PGDATA": str(cluster_of(stack, "postgres")),
        "ARCHIVE": str(stack.data / "archive"),
        "BACKUP": str(stack.data / "backup"),
    }
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


async def restart(stack: RunningStack, number: signal.Signals) -> None:
    before = pid_of(stack, "postgres")
    assert before is not None
    send([before], number)
    await restarted(stack, "postgres", before, 60)


async def archived(stack: RunningStack) -> None:
    """Wait until what was written so far is in the archive."""
    async with await psycopg.AsyncConnection.connect(stack.pg_dsn, autocommit=True) as conn, asyncio.timeout(60):
        row = await (await conn.execute("SELECT pg_walfile_name(pg_switch_wal())")).fetchone()
        assert row is not None
        while not (stack.data / "archive" / row[0]).exists():  # noqa: ASYNC110
            await asyncio.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_database_is_backed_up_and_restored_by_the_lines_of_the_page(tmp_path: Path):
    archive, backup, restore, recover = BLOCKS
    async with open_testbed(cluster=False, environment={}, keep=False, seed=57) as testbed:
        stack = testbed.stack
        folder = testbed.data / "archive"
        folder.mkdir()
        folder.chmod(0o777)  # the server may run as another user
        async with open_chat(stack) as chat:
            await paste(archive, stack, tmp_path)
            await restart(stack, signal.SIGINT)
            await is_ready(stack)
            await chat.say(30)
            await paste(backup, stack, tmp_path)
            await chat.say(30)
            await archived(stack)
            await chat.say(30)
            await chat.settled(60)
            place = cluster_of(stack, "postgres")
            await paste(restore, stack, tmp_path)
            await restart(stack, signal.SIGKILL)
            said = await paste(recover, stack, tmp_path)
            assert re.search(r"^would come back: [1-9]\d* messages", said, re.MULTILINE), said
            assert re.search(r"^came back: [1-9]\d* messages", said, re.MULTILINE), said
            await chat.settled(120)
            await is_ready(stack)
            everything_is_right(chat)
            await chat.verdict()
            shutil.rmtree(f"{place}.lost", ignore_errors=True)
