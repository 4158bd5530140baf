"""The report of a run: skipped tests in one line, and a test that takes long by its name while it runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

TESTS = """
import threading, pytest
from stack import progress

@pytest.mark.parametrize("n", range(3))
def test_a(n):
    pytest.skip("haproxy is not installed (apt-get install haproxy)")

@pytest.mark.skipif(True, reason="only root may")
def test_b(): pass

def test_c():
    threading.Event().wait(0.6)
"""


def test_a_run_tells_what_it_skipped_and_what_takes_long(tmp_path: Path):
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "conftest.py").write_text(
        "import tests.reporting as r\n"
        "from stack.progress import Progress\n"
        "r.Progress = lambda write: Progress(write, quiet_s=0.2)\n"
        "def pytest_configure(config): config.pluginmanager.register(r.Reporting(config))\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env, check=False)
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert lines[-2] == "skipped: 3 because haproxy is not installed (apt-get install haproxy); 1 because only root may"
    assert "1 passed, 4 skipped" in lines[-1]
    assert any("… test_it.py::test_c (" in line for line in lines), done.stdout
