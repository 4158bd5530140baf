"""A trial that is told to end leaves nothing that runs, and nothing behind but its logs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stack.child import end_with_parent
from tests.e2e.conftest import ROOT
from tests.folders import open_folder
from verify.fake_clock import library

VERIFY = ("verify", "--messages", "6000", "--rate", "60", "--faults", "clock-gateway")


def running_in(folder: Path) -> list[str]:
    """The commands of all processes that name this folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in words:
            found.append(words.partition(b"\0")[0].decode())
    return found


@pytest.mark.slow
@pytest.mark.timeout(150)
@pytest.mark.skipif(library() is None, reason="libfaketime is not installed (apt-get install faketime)")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_trial_that_is_told_to_end_ends_everything(number: signal.Signals):
    us = os.getpid()

    def begin() -> None:
        end_with_parent(us, signal.SIGTERM)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # the background of a shell ignores it

    with (
        open_folder("ended") as folder,
        subprocess.Popen(
            [sys.executable, "-m", "cli.main", *VERIFY],
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(folder)},
            preexec_fn=begin,
        ) as trial,
    ):
        assert trial.stderr is not None
        assert any("ready;" in line for line in trial.stderr)
        assert {path.name.rsplit("-", 1)[0] for path in folder.iterdir()} == {"millrace-clocks", "millrace-verify"}
        assert len(running_in(folder)) > 5
        trial.send_signal(number)
        said = trial.stderr.read()
        assert trial.wait(60) == 130
        [kept] = folder.iterdir()
        assert f"ended early; see the logs in {kept / 'logs'}" in said
        assert running_in(folder) == []
