"""Commands on a running stack: the demo, its topics and agents, a token."""

from __future__ import annotations

import json
import subprocess
import sys

import httpx2
import pytest

from stack.running import RunningStack

from .conftest import ROOT, errors, millrace


def test_the_demo_shows_each_messages_life(stack: RunningStack):
    done = millrace("demo", "--messages", "5", "--json", "--data", str(stack.data))
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert len(said["messages"]) == 5
    for life in said["messages"]:
        assert life["accepted"] > 0
        assert 0 < life["socket"] < life["delivered"] < life["read"]


@pytest.mark.slow
def test_the_demo_prints_each_message_as_soon_as_it_is_read(stack: RunningStack):
    command = [sys.executable, "-m", "cli.main", "demo", "--messages", "40", "--data", str(stack.data)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as running:
        assert running.stdout is not None
        title, headings, first = (running.stdout.readline() for _ in range(3))
        assert running.poll() is None, "39 messages are still to come"
        assert title == "milliseconds since the POST began\n"
        assert headings.split("\t") == ["seq", "from", "message", "accepted", "screen", "delivered", "read\n"]
        assert first.split("\t")[:2] == ["1", "alice"]
        *rest, _, medians, _ = running.stdout.read().splitlines()
        assert running.wait(60) == 0
    assert [row.split("\t")[0] for row in rest] == [str(seq) for seq in range(2, 41)]
    assert medians.startswith("medians: ")


def test_topics_and_agents_are_listed(stack: RunningStack):
    data = ("--json", "--data", str(stack.data))
    topics = json.loads(millrace("topics", "list", *data).stdout)
    assert {t["state"] for t in topics} == {"ok"}
    agents = json.loads(millrace("agents", "list", *data).stdout)
    assert {a["agent"]: (a["state"], a["members"]) for a in agents} == dict.fromkeys(
        ("status", "notification", "media", "search", "analytics", "gateway"), ("Stable", 1)
    )
    assert json.loads(millrace("topics", "apply", *data).stdout) == {"done": []}


def test_a_token_of_the_command_line_opens_the_door(stack: RunningStack):
    token = millrace("token", "dora", "--data", str(stack.data)).stdout.strip()
    answer = httpx2.get(f"{stack.http_url}/conversations", headers={"Authorization": f"Bearer {token}"})
    empty = {"unread": 0, "conversations": 0}
    assert answer.json() == {"conversations": [], "next": None, "total": empty}
    bad = millrace("token", "no such user!", "--data", str(stack.data))
    assert bad.returncode == 1
    assert errors(bad)[0].startswith("millrace: the user id must be")
