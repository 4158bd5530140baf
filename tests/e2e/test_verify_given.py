"""``millrace verify --given``: on servers that somebody else runs, if they hold nothing that it could spoil."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from stack.running import RunningStack

from .conftest import Person, millrace


def refusal(*options: str, **environment: str) -> str:
    """The one line with which a trial is refused."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
    done = millrace("verify", "--given", *options, env={**bare, **environment})
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    return line


def test_a_database_with_tables_is_refused(stack: RunningStack):
    line = refusal("--json", MILLRACE_PG__DSN=stack.pg_dsn)
    assert "MILLRACE_PG__DSN must name an empty database: a trial fills it, and this one has " in line


async def test_brokers_with_records_are_refused(stack: RunningStack, person: Callable[..., Person]):
    alice = person("alice")
    room = alice.create()
    async with alice.live() as socket:
        await socket.say(type="join_conversation", id=room)
        await socket.next("joined")
        alice.send(room)
        await socket.next("new_message")  # so a broker has it
    line = refusal("--json", MILLRACE_KAFKA__BOOTSTRAP=stack.kafka.bootstrap)
    assert "MILLRACE_KAFKA__BOOTSTRAP must name brokers without our topics, or with empty ones" in line


@pytest.mark.parametrize("fault", ["kill-kafka", "hole-kafka", "wipe-kafka", "full-kafka", "blackout"])
def test_a_fault_of_a_given_server_is_refused(stack: RunningStack, fault: str):
    line = refusal("--faults", f"kill-status,{fault}", MILLRACE_KAFKA__BOOTSTRAP=stack.kafka.bootstrap)
    assert f"{fault} must be left out: kafka is given" in line


def test_it_needs_a_server():
    assert (
        "--given must come with one or more of MILLRACE_PG__DSN, MILLRACE_KAFKA__BOOTSTRAP, MILLRACE_REDIS__URL"
        in refusal()
    )
