"""A trial on servers as companies run them: Kafka with TLS, SCRAM and ACLs, PostgreSQL with TLS that is verified."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from adapters.kafka import acls
from domain.acls import declared
from schemas.topics import load
from tests.folders import open_folder
from tests.given import tls_postgres
from tests.secured_kafka import SUPERUSER, environment_of, secured_broker
from tests.verify.trials import assert_bites, trial

DECLARED = declared(load(), "User:millrace-{role}")
USERS = sorted({acl.principal.removeprefix("User:") for acl in DECLARED})


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_random_faults_break_no_promise_on_secured_servers(tmp_path: Path):
    """Each process has the account of its role; the trial itself has one that may write foreign records."""
    with open_folder("tls") as folder:
        async with secured_broker(tmp_path / "kafka", USERS) as broker, tls_postgres(folder) as postgres:
            await acls.add(broker.plain, DECLARED)
            environment = {
                **environment_of(broker.as_user(SUPERUSER)),
                "MILLRACE_PG__DSN": postgres.dsn("trial"),
                "MILLRACE_EXEC_WRAPPER": "tests.kafka_role",
            }
            ended = await asyncio.to_thread(trial, "--given", "--seed", "1", environment=environment)
    assert (ended.code, ended.report["violations"]) == (0, []), ended.log
    assert_bites(ended.report)
