"""Commands on a running stack: the demo, its topics and agents, a token."""

from __future__ import annotations

import json

import httpx2

from stack.running import RunningStack

from .conftest import errors, millrace


def test_the_demo_shows_each_messages_life(stack: RunningStack):
    done = millrace("demo", "--messages", "5", "--json", "--data", str(stack.data))
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert len(said["messages"]) == 5
    for life in said["messages"]:
        assert life["accepted"] > 0
        assert 0 < life["socket"] < life["delivered"] < life["read"]


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
    assert answer.json() == {"conversations": [], "next": None}
    bad = millrace("token", "no such user!", "--data", str(stack.data))
    assert bad.returncode == 1
    assert errors(bad)[0].startswith("millrace: the user id must be")
