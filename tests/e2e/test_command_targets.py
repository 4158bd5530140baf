"""Every command on a stack that only the environment names."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
import typer.main

from adapters.kafka.producer import open_log
from cli.main import app
from cli.target import Server
from schemas.codec import Record
from stack.running import RunningStack
from tests.fault import topics

from .conftest import Person, errors, millrace, until
from .targets import environment, variables


def commands(group: Any = None, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield each command of the app, as the words that call it."""
    for name, command in (group or typer.main.get_command(app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*prefix, name))
        else:
            yield (*prefix, name)


@dataclass(frozen=True)
class Shell:
    """A shell in an empty folder, whose environment names the stack."""

    stack: RunningStack
    folder: Path
    person: Callable[..., Person]
    is_owner: bool = False

    def run(self, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        named = variables(self.stack, is_owner=self.is_owner)
        done = millrace(*words, cwd=self.folder, env=environment(named), **more)
        for secret in (self.stack.jwt_secret, self.stack.redis_url, self.stack.pg_dsn, named[Server.POSTGRES.value]):
            assert secret not in done.stderr
        return done

    def answer(self, *words: str, **more: Any) -> str:
        """Run the command, which must succeed on the stack of the environment; return what it prints."""
        done = self.run(*words, **more)
        assert (done.returncode, errors(done)) == (0, [])
        assert done.stderr.startswith("stack: environment (")
        return done.stdout

    def json(self, *words: str) -> Any:
        return json.loads(self.answer(*words, "--json"))


@pytest.fixture
def shell(stack: RunningStack, tmp_path: Path, person: Callable[..., Person]) -> Shell:
    folder = tmp_path / "empty"
    folder.mkdir()
    return Shell(stack, folder, person)


async def case_topics_list(shell: Shell) -> None:
    assert {row["state"] for row in shell.json("topics", "list", "--replication", "1")} == {"ok"}


async def case_topics_plan(shell: Shell) -> None:
    assert shell.json("topics", "plan", "--replication", "1") == []


async def case_topics_apply(shell: Shell) -> None:
    assert shell.json("topics", "apply", "--replication", "1") == {"done": []}


async def case_topics_acls_plan(shell: Shell) -> None:
    assert_has_no_authorizer(shell.run("topics", "acls", "plan"))


async def case_topics_acls_apply(shell: Shell) -> None:
    assert_has_no_authorizer(shell.run("topics", "acls", "apply"))


def assert_has_no_authorizer(done: subprocess.CompletedProcess[str]) -> None:
    """Assert that the broker of the stack was asked: it has no ACLs. One that has some is in another test."""
    assert done.returncode == 1
    assert errors(done) == ["millrace: Kafka has no ACLs: its setting authorizer.class.name must be set"]


async def case_topics_republish(shell: Shell) -> None:
    alice = shell.person("alice")
    room = alice.create()
    alice.send(room)
    again = shell.json("topics", "republish", "--since", "1h", "--conversation", room)
    assert again == {"republished": 2}  # the message, and the creation of the conversation


async def case_agents_list(shell: Shell) -> None:
    assert {row["agent"]: row["members"] for row in shell.json("agents", "list")}["search"] == 1


async def first_since(shell: Shell, ends: dict[int, int]) -> Any:
    """Return the first record of message.created behind these ends, once there is one."""
    async with asyncio.timeout(30):
        while not (found := await topics.records(shell.stack.kafka, "message.created", ends)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return found[0]


async def case_agents_skip(shell: Shell) -> None:
    """The search stage waits for a lock, so it does not get past the record."""
    alice = shell.person("alice")
    room = alice.create()
    ends = await topics.ends(shell.stack.kafka, "message.created")
    with psycopg.connect(shell.stack.pg_dsn) as conn:
        conn.execute("LOCK TABLE search_documents")
        message = alice.send(room)
        found = await first_since(shell, ends)
        words = ("agents", "skip", "search", "message.created", str(found.partition), str(found.offset))
        asked = shell.run(*words)
        assert (asked.returncode, asked.stdout) == (1, "")
        assert "add --yes" in asked.stderr
        outcome = shell.json(*words, "--yes")
        assert (outcome["id"], outcome["state"]) == (message["messageId"], "passed")
    assert "has passed" in shell.run(*words, "--yes").stderr
    [letter] = shell.json("dlq", "list", "search", "--conversation", room)
    assert letter["cause"] == "skipped"
    assert shell.json("dlq", "replay", "search", "--conversation", room)["handled"] == 1
    assert len(alice.http.get("/search", params={"q": "hi"}).json()["hits"]) == 1


async def case_connections_list(shell: Shell) -> None:
    alice = shell.person("alice")
    async with alice.live():
        [row] = shell.json("connections", "list", "--user", alice.user)
        assert row["userId"] == alice.user


async def case_connections_show(shell: Shell) -> None:
    alice = shell.person("alice")
    async with alice.live():
        [row] = shell.json("connections", "list", "--user", alice.user)
        assert json.loads(shell.answer("connections", "show", row["connectionId"]))["joined"] == []


async def case_connections_close(shell: Shell) -> None:
    alice = shell.person("alice")
    async with alice.live():
        [row] = shell.json("connections", "list", "--user", alice.user)
        assert shell.json("connections", "close", row["connectionId"])["closeCode"] == 4410


async def case_gateways_list(shell: Shell) -> None:
    assert [row["state"] for row in shell.json("gateways", "list")] == ["serving"]


async def case_gateways_drain(shell: Shell) -> None:
    [row] = shell.json("gateways", "list")
    drained = shell.json("gateways", "drain", row["node"], "--over", "1s", "--until-back")
    assert drained["state"] == "has ended and is back"


async def case_audit(shell: Shell) -> None:
    alice = shell.person("alice")
    room = alice.create()
    alice.send(room)
    assert shell.json("audit", "--conversation", room, "--older-than", "10m")["clean"]


async def letter(shell: Shell) -> tuple[str, str]:
    """Return the conversation and the place of a new dead letter of the search stage."""
    room = shell.person("alice").create()
    async with open_log(shell.stack.kafka) as log:
        await log.append([Record("message.created", room.encode(), b"\x00garbage")])
    [row] = until(lambda: shell.json("dlq", "list", "search", "--conversation", room))
    return room, row["letter"]


async def case_dlq_list(shell: Shell) -> None:
    await letter(shell)


async def case_dlq_show(shell: Shell) -> None:
    room, place = await letter(shell)
    assert json.loads(shell.answer("dlq", "show", "search", place))["conversationId"] == room
    assert shell.answer("dlq", "show", "search", place, "--bytes") == "\x00garbage"


async def case_dlq_replay(shell: Shell) -> None:
    room, _ = await letter(shell)
    done = shell.run("dlq", "replay", "search", "--conversation", room, "--json")
    assert (done.returncode, json.loads(done.stdout)["failed"]) == (1, 1)


async def case_dlq_discard(shell: Shell) -> None:
    room, _ = await letter(shell)
    assert shell.json("dlq", "discard", "search", "--reason", "a test", "--conversation", room)["discarded"] == 1
    [row] = shell.json("dlq", "list", "search", "--conversation", room)
    assert row["state"] == "discarded"


async def case_users_revoke(shell: Shell) -> None:
    alice = shell.person("alice")
    assert alice.http.get("/conversations").status_code == 200
    assert shell.json("users", "revoke", alice.user)["told"] is True
    until(lambda: alice.http.get("/conversations").status_code == 401)


async def case_send(shell: Shell) -> None:
    assert json.loads(shell.answer("send", "alice", "hello", "--to", "bob"))["seq"] == 1


async def case_listen(shell: Shell) -> None:
    room = json.loads(shell.answer("send", "alice", "hello", "--to", "bob"))["conversationId"]
    frames = shell.answer("listen", "bob", "--conversation", room, "--messages", "1").splitlines()
    assert [json.loads(frame)["type"] for frame in frames] == ["connected", "new_message", "joined"]


async def case_demo(shell: Shell) -> None:
    assert len(shell.json("demo", "--messages", "2")["messages"]) == 2


async def case_replay_irc(shell: Shell) -> None:
    logs = shell.folder.parent / "logs"
    logs.mkdir()
    (logs / "2006-05-27.txt").write_text("[10:00] <ada> the wheel turns\n[10:01] <ben> and the stones?\n")
    report = shell.json("replay-irc", str(logs))
    assert (report["kept"], report["accepted"]) == (True, 2)


async def case_token(shell: Shell) -> None:
    token = shell.answer("token", "alice").strip()
    answer = httpx2.get(f"{shell.stack.http_url}/conversations", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200


async def case_setup(shell: Shell) -> None:
    refused = shell.run("setup", "--replication", "1")
    assert refused.returncode == 1
    assert "must have the right to create tables" in refused.stderr
    assert "run it as the owner of the database" in refused.stderr
    assert replace(shell, is_owner=True).answer("setup", "--replication", "1") == ""


async def case_recover(shell: Shell) -> None:
    owner = replace(shell, is_owner=True)
    alice = shell.person("alice")
    alice.send(alice.create())
    assert owner.json("recover", "--dry-run")["dryRun"]
    assert owner.json("recover", "--yes")["messages"] == 0


LOCAL = ("status", "down", "logs", "env", "promote")
"""Commands about the processes and the folder of a stack on this machine."""
OWN = ("verify",)
"""It starts a stack of its own and breaks it, so it must not touch the servers of the environment."""
NOT_HERE = ("up",)
"""It starts a stack, and takes the servers of the environment for it; tests/e2e/test_up.py runs it."""


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
async def test_every_command_works_in_an_empty_folder_with_the_urls(shell: Shell, words: tuple[str, ...]):
    if words[0] in NOT_HERE:
        return
    if words[0] in LOCAL:
        done = shell.run(*words)
        [line] = done.stderr.splitlines()
        assert (done.returncode, done.stdout) == (1, "")
        assert "this command is about a stack on this machine" in line
        assert "choose with --data" in line
    elif words[0] in OWN:
        done = shell.run(*words)
        assert (done.returncode, done.stdout) == (1, "")
        assert "verify starts a stack of its own and breaks it: unset MILLRACE_PG__DSN" in done.stderr
    else:
        case = globals()[f"case_{'_'.join(words).replace('-', '_')}"]  # a new command needs one
        await case(shell)
    assert list(shell.folder.iterdir()) == []


def test_every_case_is_of_a_command():
    known = {f"case_{'_'.join(words).replace('-', '_')}" for words in commands()}
    assert {name for name in globals() if name.startswith("case_")} <= known
    assert {*LOCAL, *OWN, *NOT_HERE} <= {words[0] for words in commands()}
