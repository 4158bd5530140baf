"""Metrics: each belongs to a role, a process shows those of its role, and ages grow while nobody answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from prometheus_client import REGISTRY, Counter, Gauge, Histogram

from domain.errors import Unavailable
from ingest.outbox_age import OutboxAge
from runtime import metrics
from runtime.health import operator_server
from runtime.metrics import BY_ROLE, registry_of
from runtime.settings import Listen
from stack.ports import allot

OURS = [value for value in vars(metrics).values() if isinstance(value, Counter | Gauge | Histogram)]


def names_of(role: str) -> set[str]:
    return {family.name for family in registry_of(role).collect() if family.name.startswith("millrace_")}


def test_every_metric_belongs_to_a_role():
    shown = {id(collector) for collectors in BY_ROLE.values() for collector in collectors}
    assert [metric for metric in OURS if id(metric) not in shown] == []


def test_a_process_shows_nothing_of_other_roles():
    assert "millrace_audit_findings" in names_of("audit")
    assert not any("audit" in name for role in ("ingest", "stage", "gateway") for name in names_of(role))
    assert "millrace_stage_lag" in names_of("stage") and "millrace_stage_lag" not in names_of("ingest")
    assert "millrace_accepted_messages" in names_of("ingest") and "millrace_connections" in names_of("gateway")


def test_names_end_in_their_unit():
    times = [f.name for f in REGISTRY.collect() if f.name.startswith("millrace_") and "Unix seconds" in f.documentation]
    assert times and all(name.endswith("_timestamp_seconds") for name in times)


async def test_the_operator_port_shows_the_role():
    [port] = allot(["ops"], {}, {}).values()
    async with (
        operator_server(Listen(host="127.0.0.1", port=port), "audit", lambda: True),
        httpx2.AsyncClient() as http,
    ):
        text = (await http.get(f"http://127.0.0.1:{port}/metrics")).text
    assert "millrace_audit_duration_seconds 0.0" in text and "process_resident_memory_bytes" in text
    assert "millrace_accepted_messages_total" not in text


async def test_the_oldest_row_ages_also_while_the_store_does_not_answer():
    began = datetime(2026, 1, 1, tzinfo=UTC)
    answers: list[datetime | Unavailable | None] = [began, Unavailable("PostgreSQL does not answer"), None]
    now = [began.timestamp() + 3]

    async def read() -> datetime | None:
        answer = answers.pop(0)
        if isinstance(answer, Unavailable):
            raise answer
        return answer

    age = OutboxAge(read, lambda: now[0])
    assert age.seconds() == 0
    await age.refresh()
    assert age.seconds() == 3
    now[0] += timedelta(minutes=1).total_seconds()
    with pytest.raises(Unavailable):
        await age.refresh()
    assert age.seconds() == 63
    await age.refresh()
    assert age.seconds() == 0
