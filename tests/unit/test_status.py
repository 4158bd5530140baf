"""What is wrong although every process works: a warning makes the state of the stack degraded, with the reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from runtime.health import operator_server
from runtime.metrics import READS, REPLICA_LAG_BYTES, REPLICA_LAG_SECONDS, registry_of
from runtime.settings import Listen
from stack.ports import allot
from stack.replica_reads import in_words, replica_reads
from stack.running import STATE
from stack.servers.data_dir import DataDir
from stack.status import inspect, show

DIFFERS = "message.created has 18 partitions, 12 are declared"


@pytest.mark.parametrize(("warnings", "state"), [([], "ready"), ([DIFFERS], "degraded")])
async def test_a_warning_of_a_process_makes_the_stack_degraded(tmp_path: Path, monkeypatch, capsys, warnings, state):
    folder = DataDir(tmp_path)
    port = allot(["ingest"], {}, {})["ingest"]
    process = {"name": "ingest", "kind": "ingest", "pid": os.getpid(), "port": None, "opsPort": port, "log": None}
    folder.write(STATE, {"pid": os.getpid(), "ready": True, "processes": [process]})
    monkeypatch.setattr(DataDir, "holder", lambda _: os.getpid())
    async with operator_server(Listen(host="127.0.0.1", port=port), "ingest", lambda: True, lambda: warnings):
        found = await inspect(folder)
    assert (found["state"], found["warnings"]) == (state, warnings)
    assert found["processes"][0]["state"] == "ready"
    show(found)
    assert (f"warning: {DIFFERS}" in capsys.readouterr().out) == bool(warnings)


def test_a_stack_without_a_replica_shows_none():
    assert replica_reads([generate_latest(registry_of("stage")).decode()]) is None


def test_the_status_tells_the_lag_and_the_share_of_reads_of_the_replica():
    idle = replica_reads([generate_latest(registry_of("ingest")).decode()])
    before = idle["reads"] if idle else {"replica": 0, "primary": 0}
    READS.labels("replica").inc(3)
    READS.labels("primary").inc()
    REPLICA_LAG_BYTES.labels("replica").set(2048)
    REPLICA_LAG_SECONDS.labels("replica").set(1.26)
    texts = [generate_latest(registry_of(role)).decode() for role in ("ingest", "stage")]
    found = replica_reads(texts)
    assert found is not None
    assert {server: count - before[server] for server, count in found["reads"].items()} == {"replica": 3, "primary": 1}
    assert (found["lagBytes"], found["lagSeconds"]) == (2048, 1.3)
    assert in_words({**found, "reads": {"replica": 1203, "primary": 1}}) == (
        "1.3 s, 2,048 bytes behind; answered 1,203 of 1,204 reads"
    )
