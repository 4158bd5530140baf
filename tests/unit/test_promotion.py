"""Promotion of a replica whose servers do not end: nothing has moved."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack import promotion
from stack.errors import OperatorError
from stack.promotion import Promotion
from stack.running import STATE
from stack.servers.data_dir import DataDir

_STUBBORN = "import signal, time; [signal.signal(n, signal.SIG_IGN) for n in (2, 3)]; print(flush=True); time.sleep(60)"


@pytest.fixture
def stubborn() -> Iterator[int]:
    """The id of a process that ignores the signals which end a server."""
    with subprocess.Popen([sys.executable, "-c", _STUBBORN], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.kill()


@pytest.mark.parametrize("name", ["postgres", "postgres-replica"])
def test_a_server_that_does_not_end_leaves_each_folder_where_it_was(
    name: str, stubborn: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(promotion, "_END_S", 0.2)
    data = DataDir(tmp_path / "data")
    data.prepare()
    data.write(STATE, {"processes": [{"name": name, "pid": stubborn}]})
    primary, replica = tmp_path / "primary", tmp_path / "replica"
    for folder, file in ((primary, "PG_VERSION"), (replica, "standby.signal")):
        folder.mkdir()
        (folder / file).touch()
    with pytest.raises(OperatorError, match=f"{name} .process {stubborn}. does not end, so nothing is promoted"):
        Promotion(data, primary, replica).carry_out()
    assert {path.name for path in tmp_path.iterdir()} == {"data", "primary", "replica"}
    assert (primary / "PG_VERSION").exists() and (replica / "standby.signal").exists()
