"""Every command on a stack that only the environment names, and the order in which a stack is chosen."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
from schemas.ids import new_id
from stack.running import STATE, RunningStack
from stack.servers.data_dir import DataDir

from .conftest import ROOT, Person, errors, millrace, until


def commands(group: Any = None, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield each command of the app, as the words that call it."""
    for name, command in (group or typer.main.get_command(app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*prefix, name))
        else:
            yield (*prefix, name)


def variables(stack: RunningStack) -> dict[str, str]:
    return {
        Server.POSTGRES.value: stack.pg_dsn,
        Server.KAFKA.value: stack.kafka,
        Server.REDIS.value: stack.redis_url,
        Server.HTTP.value: stack.http_url,
        Server.WEBSOCKET.value: stack.ws_url,
        Server.SECRET.value: stack.jwt_secret,
    }


def environment(named: Mapping[str, str]) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
    return {**clean, "PYTHONPATH": str(ROOT), **named}


@dataclass(frozen=True)
class Shell:
    """A shell in an empty folder, whose environment names the stack."""

    stack: RunningStack
    folder: Path
    person: Callable[..., Person]

    def run(self, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        done = millrace(*words, cwd=self.folder, env=environment(variables(self.stack)), **more)
        for secret in (self.stack.jwt_secret, self.stack.redis_url, self.stack.pg_dsn):
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
    assert {row["state"] for row in shell.json("topics", "list")} == {"ok"}


async def case_topics_apply(shell: Shell) -> None:
    assert shell.json("topics", "apply", "--replication", "1") == {"done": []}


async def case_topics_republish(shell: Shell) -> None:
    alice = shell.person("alice")
    room = alice.create()
    alice.send(room)
    again = shell.json("topics", "republish", "--since", "1h", "--conversation", room)
    assert again == {"republished": 2}  # the message, and the creation of the conversation


async def case_agents_list(shell: Shell) -> None:
    assert {row["agent"]: row["members"] for row in shell.json("agents", "list")}["search"] == 1


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
    assert shell.json("dlq", "replay", "search", "--conversation", room) == {"replayed": 1, "failing": []}


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
    assert shell.answer("setup", "--replication", "1") == ""


LOCAL = ("status", "down", "logs", "env")
"""They are about the processes and the folder of a stack on this machine."""
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


DEAD = {
    Server.POSTGRES.value: "postgresql://127.0.0.1:1/nowhere",
    Server.KAFKA.value: "127.0.0.1:1",
    Server.REDIS.value: "redis://127.0.0.1:1/0",
    Server.HTTP.value: "http://127.0.0.1:1",
    Server.WEBSOCKET.value: "ws://127.0.0.1:1/ws",
    Server.SECRET.value: "a secret that signs nothing which is accepted anywhere",
}


@contextmanager
def dead_stack(folder: Path, **servers: str) -> Iterator[Path]:
    """A data folder held as by a supervisor, whose servers do not answer, but for those given."""
    held = DataDir(folder)
    held.prepare()
    state = {
        "kind": "single",
        "urls": {"http": DEAD[Server.HTTP.value], "ws": DEAD[Server.WEBSOCKET.value]},
        "servers": {
            "pg": DEAD[Server.POSTGRES.value],
            "kafka": DEAD[Server.KAFKA.value],
            "redis": DEAD[Server.REDIS.value],
            **servers,
        },
        "auth": {"signsItsOwn": True, "issuer": "millrace", "audience": "millrace"},
        "processes": [],
        "leftOut": [],
    }
    held.write(STATE, state)
    with held.locked():
        yield folder


KINDS = [
    ("topics", "list"),
    ("agents", "list"),
    ("gateways", "list"),
    ("connections", "list"),
    ("dlq", "list", "media"),
    ("audit", "--since", "1s"),
    ("topics", "republish", "--since", "1h", "--conversation", "01900000-0000-7000-8000-000000000009"),
    ("users", "revoke", "mallory"),
    ("send", "alice", "hello", "--to", "bob"),
    ("listen", "alice", "--messages", "1"),
    ("demo", "--messages", "1"),
    ("setup", "--replication", "1"),
]


def words_of(command: Sequence[str], stack: RunningStack) -> Sequence[str]:
    if command[0] != "listen":
        return command
    sent = millrace("send", "alice", "hello", "--to", "bob", "--data", str(stack.data))
    return (*command, "--conversation", json.loads(sent.stdout)["conversationId"])


@pytest.mark.parametrize("command", KINDS, ids=lambda command: " ".join(command[:2]))
def test_data_comes_before_the_environment_and_that_before_the_folder_here(
    stack: RunningStack, tmp_path: Path, command: tuple[str, ...]
):
    words = words_of(command, stack)
    ends = (0, 1) if command[0] == "audit" else (0,)  # its verdict on what other tests have done to the stack
    with dead_stack(tmp_path / ".millrace"):
        by_environment = millrace(*words, cwd=tmp_path, env=environment(variables(stack)))
        assert errors(by_environment) == []
        assert by_environment.returncode in ends
        by_data = millrace(*words, "--data", str(stack.data), cwd=tmp_path, env=environment(DEAD))
        assert errors(by_data) == []
        assert by_data.returncode in ends
        assert by_data.stderr == f"stack: {stack.data}\n"


def revoked(dsn: str, user: str) -> int:
    with psycopg.connect(dsn) as db:
        row = db.execute("SELECT count(*) FROM revocations WHERE user_id = %s", (user,)).fetchone()
    assert row is not None
    return int(row[0])


def test_a_revocation_lands_on_the_stack_that_was_named_and_on_no_other(
    stack: RunningStack, pg_dsn: str, redis_url: str, tmp_path: Path
):
    """The development stack in this folder has the servers of ``pg_dsn`` and ``redis_url``; ``stack`` is production."""
    users = [f"mallory-{new_id()[-8:]}" for _ in range(4)]
    with dead_stack(tmp_path / ".millrace", pg=pg_dsn, redis=redis_url):

        def revoke(user: str, *options: str, **named: str) -> int:
            done = millrace("users", "revoke", user, *options, cwd=tmp_path, env=environment(named))
            return done.returncode

        assert revoke(users[0], **variables(stack)) == 0
        assert (revoked(stack.pg_dsn, users[0]), revoked(pg_dsn, users[0])) == (1, 0)
        assert revoke(users[1], "--data", ".millrace", **variables(stack)) == 0
        assert (revoked(stack.pg_dsn, users[1]), revoked(pg_dsn, users[1])) == (0, 1)
        assert revoke(users[2]) == 0
        assert (revoked(stack.pg_dsn, users[2]), revoked(pg_dsn, users[2])) == (0, 1)
        for half in (Server.POSTGRES.value, Server.REDIS.value):
            assert revoke(users[3], **{half: variables(stack)[half]}) == 1
            assert revoke(users[3], **{**variables(stack), half: ""}) == 1
        assert (revoked(stack.pg_dsn, users[3]), revoked(pg_dsn, users[3])) == (0, 0)
