"""The order in which a stack is chosen: --data, then the environment, then the folder here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from cli.target import Server
from schemas.ids import new_id
from stack.running import STATE, RunningStack
from stack.servers.data_dir import DataDir

from .conftest import errors, millrace
from .targets import environment, variables

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
            "redis": DEAD[Server.REDIS.value],
            **servers,
        },
        "kafka": {"bootstrap": DEAD[Server.KAFKA.value]},
        "logins": {},
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
        named = environment(variables(stack, is_owner=command[0] == "setup"))
        by_environment = millrace(*words, cwd=tmp_path, env=named)
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
