"""Killing parts of the running stack: nothing that was accepted is lost, doubled or out of order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stack.running import RunningStack

from .conftest import ROOT, errors, kill, millrace, process, settled, status, until

IRC = Path(os.environ.get("MILLRACE_IRC", ROOT.parent / "shared" / "data" / "irc"))
DAY = "2013-10-11"


def logs(tmp_path: Path) -> Path:
    """A folder with one day of real chat, or, where there is none, of chat in its form."""
    if (IRC / f"{DAY}.txt").exists():
        return IRC
    lines = []
    for n in range(900):
        lines.append(f"[{10 + n // 60:02}:{n % 60:02}] <nick{n % 40}> line {n} of the day, nick{(n * 7) % 40}: hello")
        if n % 30 == 0:
            lines.append(f"=== guest{n} [~g@example.net]  has joined #mill")
        if n % 30 == 20:
            lines.append(f"=== guest{n - 20} [~g@example.net]  has left #mill []")
    (tmp_path / f"{DAY}.txt").write_text("\n".join(lines))
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(170)
def test_a_day_of_chat_survives_kills_of_a_stage_and_of_the_gateway(stack: RunningStack, tmp_path: Path):
    command = [sys.executable, "-m", "cli.main", "replay-irc", str(logs(tmp_path)), "--days", DAY]
    head = [process(stack, name)["restarts"] for name in ("status", "gateway", "ingest")]
    replay = subprocess.Popen(
        [*command, "--data", str(stack.data), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        accepted = accepted_count(stack)
        until(lambda: accepted_count(stack) > accepted + 150)
        kill(stack, "status")
        until(lambda: accepted_count(stack) > accepted + 350)
        kill(stack, "gateway")
        until(lambda: accepted_count(stack) > accepted + 550)
        kill(stack, "ingest")
        out, err = replay.communicate(timeout=150)
    finally:
        replay.kill()
    assert out, err
    said = json.loads(out)
    assert said["kept"], said["evidence"]
    assert (said["lost"], said["doubled"], said["outOfOrder"]) == (0, 0, 0)
    assert said["delivered"] == said["expected"] > 10_000
    assert said["reconnects"] > 0
    now = [process(stack, name)["restarts"] for name in ("status", "gateway", "ingest")]
    assert [n - h for n, h in zip(now, head, strict=True)] == [1, 1, 1]
    until(lambda: status(stack)["state"] == "ready")
    assert settled(stack, newest_room(stack))["by"]["message.created"]["checked"] == said["accepted"]


def newest_room(stack: RunningStack) -> str:
    """The conversation that was made last."""
    import psycopg

    with psycopg.connect(stack.pg_dsn) as conn:
        found = conn.execute("SELECT conversation_id::text FROM conversations ORDER BY created_at DESC").fetchone()
    assert found is not None
    return str(found[0])


def accepted_count(stack: RunningStack) -> int:
    """Messages in the store."""
    import psycopg

    with psycopg.connect(stack.pg_dsn) as conn:
        found = conn.execute("SELECT count(*) FROM messages").fetchone()
    assert found is not None
    return int(found[0])


def test_servers_that_die_come_back_and_everything_goes_on(stack: RunningStack, person):
    alice = person("alice")
    room = alice.create()
    for name in ("valkey", "postgres", "kafka"):
        before = process(stack, name)["restarts"]
        kill(stack, name)
        until(lambda name=name, before=before: process(stack, name)["restarts"] > before)

        def stored(key: str = name) -> bool:
            body = {"conversationId": room, "type": "text", "content": "again", "clientMessageId": key}
            answer = alice.http.post("/messages", json=body)
            assert answer.status_code in (200, 201, 503), answer.text
            return answer.status_code != 503

        until(stored)

    def messages() -> list[dict[str, Any]]:
        answer = alice.http.get(f"/conversations/{room}/messages")
        assert answer.status_code == 200, answer.text
        return list(answer.json()["messages"])

    until(lambda: {m["status"] for m in messages()} == {"sent"}, 60)
    assert [m["seq"] for m in messages()] == [1, 2, 3]
    until(lambda: status(stack)["state"] == "ready", 60)


def test_a_log_that_is_not_there_is_a_clear_error(stack: RunningStack, tmp_path: Path):
    done = millrace("replay-irc", str(tmp_path), "--data", str(stack.data))
    assert done.returncode == 1
    [line] = errors(done)
    assert line.startswith("millrace: ")
