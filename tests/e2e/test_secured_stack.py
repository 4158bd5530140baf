"""The whole stack on a Kafka with TLS, SCRAM and ACLs, each process with the account and the rights of its role."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from adapters.kafka import acls
from domain.acls import declared
from schemas.topics import load, stages
from stack.running import RunningStack, running_stack
from tests.folders import open_folder
from tests.secured_kafka import PASSWORD, Secured, environment_of, secured_broker

from .conftest import ROOT, Person, person_of

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

DECLARED = declared(load(), "User:millrace-{role}")
ROLES = sorted({acl.principal.removeprefix("User:millrace-") for acl in DECLARED})


@dataclass(frozen=True)
class Site:
    """A stack, and the broker that it was given."""

    stack: RunningStack
    kafka: Secured
    environment: dict[str, str]

    def log(self, name: str) -> str:
        return (self.stack.data / "logs" / f"{name}.log").read_text()

    def events(self, name: str, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log(name).splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    async def until_logged(self, name: str, event: str, more_than: int = 0) -> dict[str, Any]:
        async with asyncio.timeout(60):
            while len(self.events(name, event)) <= more_than:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        return self.events(name, event)[-1]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """A stack that is given a secured broker with ACLs and no topics; its own account is that of the setup."""
    folder = tmp_path_factory.mktemp("secured")
    password = folder / "password"
    password.write_text(f"{PASSWORD}\n")
    async with secured_broker(folder / "kafka", [f"millrace-{role}" for role in ROLES]) as broker:
        await acls.add(broker.plain, DECLARED)
        given = environment_of(broker.as_user("millrace-setup"))
        del given["MILLRACE_KAFKA__SASL_PASSWORD"]
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")},
            **given,
            "MILLRACE_KAFKA__SASL_PASSWORD_FILE": str(password),
            "MILLRACE_EXEC_WRAPPER": "tests.kafka_role",
            "MILLRACE_AUDIT__INTERVAL_S": "3",
            "MILLRACE_AUDIT__GRACE_S": "1",
        }
        with open_folder("secured") as data, (data / "up.log").open("wb") as log:
            argv = [sys.executable, "-m", "cli.main", "up", "--data", str(data), "--with-parent", "--json"]
            process = await asyncio.create_subprocess_exec(
                *argv, stdout=asyncio.subprocess.PIPE, stderr=log, env=environment, cwd=ROOT
            )
            try:
                assert process.stdout is not None
                line = await process.stdout.readline()
                assert line, (data / "up.log").read_text()
                yield Site(running_stack(data), broker, environment)
            finally:
                if process.returncode is None:
                    process.terminate()
                await process.wait()


async def test_a_message_is_delivered_and_its_receipt_comes_back(site: Site):
    alice, bob = person_of(site.stack, "alice"), person_of(site.stack, "bob")
    room = alice.create(bob.user)
    async with alice.live() as sender, bob.live() as reader:
        for socket in (sender, reader):
            await socket.say(type="join_conversation", id=room)
            await socket.next("joined")
        sent = alice.send(room, "over TLS")
        received = await reader.next("new_message")
        assert received["message"]["messageId"] == sent["messageId"]
        await reader.say(type="read", conversationId=room, seq=sent["seq"])
        while (await sender.next("message_status"))["status"] != "read":
            pass


async def test_every_stage_has_worked_and_the_audit_finds_nothing(site: Site):
    alice = person_of(site.stack, "alice")
    room = alice.create(person_of(site.stack, "carol").user)  # who is not connected, and so is notified
    alice.send(room, "about quinces")
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(searched, alice, "quinces"):  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    done = await site.until_logged("audit", "audit_done", more_than=len(site.events("audit", "audit_done")) + 2)
    assert done["findings"] == 0
    names = ("ingest", "gateway", "audit", *stages())
    assert {name for name in names if "does not allow" in site.log(name) or "Traceback" in site.log(name)} == set()
    assert {name for name in names if PASSWORD in site.log(name)} == set()


def searched(person: Person, text: str) -> bool:
    answer = person.http.get("/search", params={"q": text})
    assert answer.status_code == 200, answer.text
    return bool(answer.json()["hits"])


async def test_commands_of_operators_work_with_their_account(site: Site):
    stack = site.stack
    environment = {
        name: value for name, value in site.environment.items() if name != "MILLRACE_KAFKA__SASL_PASSWORD_FILE"
    }
    environment |= environment_of(site.kafka.as_user("millrace-operator"))
    environment["MILLRACE_PG__DSN"] = stack.pg_dsn_of("operator")
    for words in (
        ("agents", "list"),
        ("topics", "list", "--replication", "1"),
        ("topics", "plan", "--replication", "1"),
        ("audit", "--since", "5m"),
        ("dlq", "list", "search"),
    ):
        done = await run(environment, *words)
        assert (done.returncode, done.stderr.count("\n")) == (0, 1), (words, done.stderr, done.stdout)
    # A command that only names the folder connects as the stack was told to, with the account of its setup.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
    done = await run(environment, "topics", "plan", "--data", str(stack.data), "--replication", "1")
    assert (done.returncode, done.stderr.count("\n")) == (0, 1), done.stderr
    done = await run(environment, "agents", "list", "--data", str(stack.data))
    assert done.returncode == 1
    assert done.stderr.splitlines()[1].startswith("millrace: Kafka does not allow this user to use the group ")


async def run(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "cli.main", *words]
    return await asyncio.to_thread(
        subprocess.run, argv, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("argv", [("streams", "search"), ("gateway",)], ids=" ".join)
async def test_a_process_that_kafka_refuses_says_so_and_ends(site: Site, argv: tuple[str, ...]):
    stack = site.stack
    kafka = site.kafka.as_user("millrace-search", sasl_password="wr0ng")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")},
        **environment_of(kafka),
        "MILLRACE_PG__DSN": stack.pg_dsn_of(argv[-1]),
        "MILLRACE_REDIS__URL": stack.redis_url,
        "MILLRACE_AUTH__SECRET": stack.jwt_secret,
        "MILLRACE_DATA_DIR": str(stack.data),
    }
    command = [sys.executable, "-m", *argv]
    done = await asyncio.to_thread(
        subprocess.run, command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    [end] = [line for line in lines if line["event"] == "process_cannot_work"]
    assert (done.returncode, end["code"], done.stderr) == (77, 77, "")
    assert end["reason"] == (
        f"Kafka at {kafka.bootstrap} refuses the user millrace-search: MILLRACE_KAFKA__SASL_USER and SASL_PASSWORD"
        " must be ones that it knows"
    )
    assert "wr0ng" not in done.stdout


@pytest.mark.parametrize(
    ("name", "principal", "topic"),
    [
        ("search", "search", "message.created"),
        ("search", "search", "search.indexed"),
        ("gateway", "gateway", "message.sent"),
        ("ingest", "ingest", "message.created"),
    ],
)
async def test_a_right_that_ends_while_a_process_runs_is_told_and_nothing_is_lost(
    site: Site, name: str, principal: str, topic: str
):
    rights = [acl for acl in DECLARED if acl.principal == f"User:millrace-{principal}" and acl.name == topic]
    alice = person_of(site.stack, "alice")
    room = alice.create()
    begin = len(site.log(name))
    await acls.remove(site.kafka.plain, rights)
    try:
        alice.send(room, f"pears {name}")
        async with asyncio.timeout(100):
            while f"Kafka does not allow this user to use the topic {topic}" not in site.log(name)[begin:]:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
    finally:
        await acls.add(site.kafka.plain, rights)
    assert "Traceback" not in site.log(name)[begin:]
    async with asyncio.timeout(100):
        while not await asyncio.to_thread(searched, alice, "pears"):  # noqa: ASYNC110
            await asyncio.sleep(0.2)
