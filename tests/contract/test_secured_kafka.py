"""Kafka as companies run it: every kind of client over TLS and SASL, with the rights of its role and no others."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from adapters.kafka import acls
from adapters.kafka.access import access
from adapters.kafka.admin import committed, describe, groups_lag, wait_for_topics
from adapters.kafka.consumer import open_consumer, read_topic
from adapters.kafka.dead_letters import KafkaLetters
from adapters.kafka.log_position import open_positions
from adapters.kafka.producer import open_log
from adapters.kafka.raw import write_raw
from adapters.kafka.reader import open_reader
from adapters.kafka.receipt_progress import open_receipt_progress
from adapters.kafka.record import position_of, read_record
from adapters.kafka.topics import apply, plan
from domain.acls import AUDITED, Acl, declared
from domain.errors import AccessRefused, Unavailable
from runtime.kafka_settings import Kafka
from runtime.setting import FileSecret
from schemas.codec import Record
from schemas.topics import load, stages
from tests.certificates import Authority
from tests.checkout import ROOT
from tests.secured_kafka import PASSWORD, SUPERUSER, Secured, environment_of, secured_broker
from tests.token_endpoint import SECRET, TokenEndpoint

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

ROLES = ("ingest", "gateway", *stages(), "audit", "operator", "setup", "data")
CREATED, RECEIPTS = "message.created", "receipt.recorded"
DECLARED = declared(load(), "User:millrace-{role}")


def record(topic: str = CREATED) -> Record:
    return Record(topic, b"key", b"{}", ())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("secured")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bare(folder: Path) -> AsyncIterator[Secured]:
    """A broker with users, without topics and ACLs."""
    async with secured_broker(folder, ["nobody", *(f"millrace-{role}" for role in ROLES)]) as broker:
        yield broker


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def secured(bare: Secured) -> Secured:
    """The broker, with the ACLs of all roles, and the topics, which the role for that has made."""
    await acls.add(bare.plain, DECLARED)
    await apply(role(bare, "setup"), load(), replication=1)
    return bare


def role(secured: Secured, name: str, **other: Any) -> Kafka:
    return secured.as_user(f"millrace-{name}", **other)


def millrace(kafka: Kafka, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
    argv = [sys.executable, "-m", "cli.main", *words]
    environment |= environment_of(kafka)
    return subprocess.run(argv, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60)


async def test_the_commands_plan_and_apply_the_acls(bare: Secured):
    admin = bare.as_user(SUPERUSER)
    planned = await asyncio.to_thread(millrace, admin, "topics", "acls", "plan", "--json")
    rows = json.loads(planned.stdout)
    assert (planned.returncode, {row["change"] for row in rows}) == (2, {"add"})
    assert {(row["principal"], row["operation"], row["resource"], row["name"]) for row in rows} == {
        (acl.principal, acl.operation, acl.resource, acl.name) for acl in DECLARED
    }
    strange = [
        Acl("User:millrace-search", "TOPIC", "salaries", "READ"),
        Acl("User:millrace-status", "TOPIC", CREATED, "READ", permission="DENY"),
    ]
    of_others = Acl("User:payroll", "TOPIC", "salaries", "READ")
    await acls.add(bare.plain, [*strange, of_others])
    applied = await asyncio.to_thread(millrace, admin, "topics", "acls", "apply")
    assert (applied.returncode, len(applied.stdout.splitlines())) == (0, len(DECLARED))
    planned = await asyncio.to_thread(millrace, admin, "topics", "acls", "plan")
    assert planned.returncode == 2
    assert planned.stdout.splitlines()[1:] == [
        "User:millrace-search\tREAD\ttopic salaries\tremove, with --remove",
        "User:millrace-status\tdeny READ\ttopic message.created\tremove, with --remove",
    ]
    await asyncio.to_thread(millrace, admin, "topics", "acls", "apply", "--remove")
    assert set(await acls.found(bare.plain)) == {*DECLARED, of_others}
    planned = await asyncio.to_thread(millrace, admin, "topics", "acls", "plan")
    assert (planned.returncode, len(planned.stdout.splitlines())) == (0, 1)


async def test_the_relay_writes_and_looks_at_the_ends_of_all_topics(secured: Secured):
    kafka = role(secured, "ingest")
    async with open_log(kafka) as log, open_positions(kafka, load(), "relay") as positions:
        assert list(await log.append([record()])) == [f"{CREATED}/{(await place(secured)).partition}"]
        position = await positions.read()
        assert sum(position.ends.values()) > 0
        assert position.missing == ()
        await positions.restore(1)  # which makes none
        with pytest.raises(AccessRefused, match=r"use the topic message\.sent"):
            await log.append([record("message.sent")])


async def place(secured: Secured) -> Any:
    return (await read_topic(secured.plain, CREATED))[-1]


async def test_a_gateway_is_a_member_of_its_group_and_writes_receipts(secured: Secured):
    kafka = role(secured, "gateway")
    async with open_log(role(secured, "status")) as log:
        await log.append([record("message.sent")])
    await wait_for_topics(kafka, ["message.sent", "message.status"], 10)
    async with open_consumer(kafka, topics=["message.sent"], group="gateway") as consumer, open_log(kafka) as log:
        assert [each.topic for each in await consumer.batch(10)] == ["message.sent"]
        await consumer.commit()
        await log.append([record(RECEIPTS)])
    assert sum((await committed(role(secured, "operator"), ["gateway"], "message.sent"))["gateway"].values()) > 0


async def test_the_audit_and_operators_read_and_change_no_position(secured: Secured):
    audit, operator = role(secured, "audit"), role(secured, "operator")
    async with open_log(role(secured, "ingest")) as log:
        await log.append([record()])
    newest = await place(secured)
    async with open_reader(audit) as reader:
        begins = await reader.begins([*AUDITED, *(f"{stage}.dlq" for stage in stages())], 0)
        assert begins.of(CREATED, newest.partition) is not None
        seen = [each async for batch in reader.read({(CREATED, newest.partition): 0}) for each in batch]
        assert seen[-1].offset == newest.offset
    assert set(await committed(audit, stages(), CREATED)) == set(stages())
    assert (await read_record(operator, CREATED, newest.partition, newest.offset)).value == b"{}"
    assert (await position_of(operator, "status", CREATED, newest.partition)).end == newest.offset + 1
    assert [group.group for group in await groups_lag(operator, {"status": [CREATED]})] == ["status"]
    assert await plan(operator, load(), replication=1) == []
    await write_raw(operator, [("status.retry", b"key", b"{}")])
    letters = KafkaLetters(operator, "status")
    assert (await letters.letters(), await letters.reached()) == ([], {})


async def test_the_notification_stage_sees_how_far_the_status_stage_is(secured: Secured):
    async with open_receipt_progress(role(secured, "notification"), RECEIPTS, "status") as progress:
        assert await progress.read()


async def test_a_role_may_do_nothing_else(secured: Secured):
    async def append(kafka: Kafka, topic: str) -> None:
        async with open_log(kafka) as log:
            await log.append([record(topic)])

    async def consume(kafka: Kafka, group: str) -> None:
        async with open_consumer(kafka, topics=[CREATED], group=group) as consumer, asyncio.timeout(20):
            await consumer.batch(1)

    refused: list[tuple[Awaitable[Any], str]] = [
        (append(role(secured, "search"), CREATED), f"use the topic {CREATED}"),
        (append(role(secured, "gateway"), "message.sent"), "use the topic message.sent"),
        (append(role(secured, "audit"), CREATED), "write to any topic"),
        (append(secured.as_user("nobody"), CREATED), "write to any topic"),
        (consume(role(secured, "search"), "status"), "use the group status"),
        (read_topic(role(secured, "gateway"), CREATED), f"use the topic {CREATED}"),
        (wait_for_topics(role(secured, "data"), [CREATED], 30), f"use the topic {CREATED}"),
        (apply(role(secured, "operator"), load(), replication=2), "use the topic"),
        (acls.found(role(secured, "operator")), "on the cluster"),
        (acls.add(role(secured, "setup"), [Acl("User:me", "TOPIC", CREATED, "READ")]), "on the cluster"),
    ]
    for work, text in refused:
        with pytest.raises(AccessRefused, match=f"^Kafka does not allow this user to .*{text}.*acls plan"):
            await work


async def test_a_right_that_ends_while_a_consumer_reads_is_told(secured: Secured):
    right = next(acl for acl in DECLARED if acl.principal == "User:millrace-gateway" and acl.name == "message.status")
    kafka = role(secured, "gateway")
    async with open_consumer(kafka, topics=["message.status"], group="gateway") as consumer:
        reading = asyncio.create_task(consumer.batch(1))
        while not consumer.assigned:  # noqa: ASYNC110 - nothing else tells
            await asyncio.sleep(0.05)
        await acls.remove(secured.plain, [right])
        try:
            with pytest.raises(AccessRefused, match=r"use the topic message\.status"):
                async with asyncio.timeout(30):
                    await reading
        finally:
            await acls.add(secured.plain, [right])


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"])
async def test_every_mechanism_with_a_password(secured: Secured, mechanism: str):
    assert await describe(role(secured, "operator", sasl_mechanism=mechanism), [CREATED])


async def test_a_client_certificate_with_an_encrypted_key(secured: Secured):
    certificate = secured.authority.certify("millrace-operator", password="of the key")
    assert await describe(secured.by_certificate(certificate, key_password="of the key"), [CREATED])


@pytest.fixture
def endpoint() -> Iterator[Callable[[int], TokenEndpoint]]:
    begun: list[TokenEndpoint] = []

    def begin(life_s: int) -> TokenEndpoint:
        begun.append(TokenEndpoint(life_s))
        threading.Thread(target=begun[-1].server.serve_forever, daemon=True).start()
        return begun[-1]

    yield begin
    for each in begun:
        each.server.shutdown()
        each.server.server_close()


def by_token(secured: Secured, url: str, secret: str = SECRET) -> Kafka:
    user = {"sasl_user": None, "sasl_password": None, "sasl_mechanism": "OAUTHBEARER"}
    return secured.as_user(
        "", **user, oauth_token_url=url, oauth_client_id="app", oauth_client_secret=secret, oauth_scope="kafka"
    )


async def test_a_token_is_fetched_once_for_all_clients_and_again_before_it_expires(secured: Secured, endpoint):
    issuer = endpoint(3600)
    kafka = by_token(secured, issuer.url)
    for _ in range(2):
        assert await describe(kafka, [CREATED])
    assert issuer.requests == [(f"app:{SECRET}", "grant_type=client_credentials&scope=kafka")]
    short = endpoint(1)
    tokens = access(by_token(secured, short.url))["sasl_oauth_token_provider"]
    first = await tokens.token()
    while await tokens.token() == first:  # noqa: ASYNC110 - the clock alone moves it
        await asyncio.sleep(0.05)
    assert short.issued == 2


async def test_a_token_endpoint_that_refuses_or_does_not_answer(secured: Secured, endpoint):
    issuer = endpoint(3600)
    with pytest.raises(AccessRefused, match=r"token endpoint of Kafka refuses the client \(401\).*OAUTH_CLIENT_ID"):
        await describe(by_token(secured, issuer.url, secret="another"), [CREATED])
    with pytest.raises(Unavailable, match="MILLRACE_KAFKA__OAUTH_TOKEN_URL does not answer") as failed:
        await describe(by_token(secured, "http://127.0.0.1:9/token"), [CREATED])
    assert not isinstance(failed.value, AccessRefused)


Connect = Callable[[Secured, Authority], Kafka]
REFUSALS: dict[str, tuple[Connect, str]] = {
    "password": (
        lambda s, _: role(s, "operator", sasl_password="wr0ng"),
        "refuses the user millrace-operator: MILLRACE_KAFKA__SASL_USER and SASL_PASSWORD must be ones that it knows",
    ),
    "user": (lambda s, _: s.as_user("stranger"), "refuses the user stranger"),
    "authority": (
        lambda s, other: role(s, "operator", ca_file=str(other.file)),
        "has a certificate that does not verify .*: MILLRACE_KAFKA__CA_FILE must hold the authority that signed it",
    ),
    "authorities of the system": (
        lambda s, _: role(s, "operator", ca_file=None),
        "has a certificate that does not verify",
    ),
    "name": (
        lambda s, _: role(s, "operator", bootstrap=f"localhost:{s.broker.sasl_port}"),
        "has a certificate of another name: MILLRACE_KAFKA__BOOTSTRAP must have one that is in it",
    ),
    "client certificate": (
        lambda s, other: s.by_certificate(other.certify("stranger")),
        "refuses the client certificate: MILLRACE_KAFKA__CERTIFICATE_FILE must be one that it trusts",
    ),
    "no SASL there": (
        lambda s, _: role(
            s, "operator", bootstrap=s.broker.bootstrap, security_protocol="SASL_PLAINTEXT", ca_file=None
        ),
        "wants no SASL: MILLRACE_KAFKA__SECURITY_PROTOCOL must be that of its listener",
    ),
    "no TLS there": (lambda s, _: role(s, "operator", bootstrap=s.broker.bootstrap), "closes the connection: check"),
    "TLS there": (lambda s, _: Kafka(bootstrap=f"127.0.0.1:{s.broker.sasl_port}"), "closes the connection: check"),
}


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other"))


@pytest.mark.parametrize("kind", REFUSALS)
async def test_a_connection_that_is_refused_says_why_in_one_line(secured: Secured, other: Authority, kind: str):
    connect, text = REFUSALS[kind]
    kafka = connect(secured, other)
    began = time.monotonic()
    with pytest.raises(Unavailable, match=rf"^Kafka at \S+ {text}"):
        await describe(kafka, [CREATED])
    assert time.monotonic() - began < 10
    shown = await asyncio.to_thread(millrace, kafka, "topics", "plan")
    [named, line] = shown.stderr.splitlines()
    assert (shown.returncode, shown.stdout) == (1, "")
    assert named.startswith("stack: environment (kafka ")
    assert line.startswith(f"millrace: Kafka at {kafka.bootstrap} ")
    for secret in (PASSWORD, "wr0ng", "Traceback"):
        assert secret not in shown.stderr


async def test_a_password_and_an_authority_are_read_again_at_the_next_connection(
    secured: Secured, other: Authority, tmp_path: Path
):
    password, authority = tmp_path / "password", tmp_path / "authority.pem"
    password.write_text("of the last year\n")
    authority.write_bytes(secured.authority.file.read_bytes())
    kafka = role(secured, "ingest", sasl_password=FileSecret(password), ca_file=str(authority))
    async with open_log(kafka) as log, open_positions(kafka, load(), "relay") as positions:
        with pytest.raises(AccessRefused, match="refuses the user millrace-ingest"):
            await log.append([record()])
        password.write_text(f"{PASSWORD}\n")
        await log.append([record()])
        authority.write_bytes(other.file.read_bytes())
        with pytest.raises(AccessRefused, match="does not verify"):
            await positions.read()
        authority.write_bytes(secured.authority.file.read_bytes())
        await positions.read()


async def test_no_request_makes_a_topic(secured: Secured):
    """The broker's default would make one with the broker's number of partitions; here nothing may ask for it."""
    async with open_reader(secured.plain) as reader:
        with pytest.raises(Unavailable, match="the broker has no topic nothing"):
            await reader.begins(["nothing"], 0)
    assert await describe(secured.plain, ["nothing"]) == {}
