"""What is wrong although every process works: a warning makes the state of the stack degraded, with the reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime.health import operator_server
from runtime.settings import Listen
from stack.ports import allot
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
