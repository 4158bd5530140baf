"""The example in the README of the client library runs as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from stack.running import RunningStack

from .conftest import ROOT, person_of

README = ROOT / "sdk" / "python" / "README.md"


def run(stack: RunningStack, folder: Path) -> list[str]:
    [example] = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    alice, bob = person_of(stack, "alice"), person_of(stack, "bob")
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "sdk" / "python"),
        "API": stack.http_url,
        "WS": stack.ws_url,
        "ALICE": alice.token,
        "BOB": bob.token,
        "BOB_ID": bob.user,
    }
    done = subprocess.run(
        [sys.executable, "-c", example],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.replace(alice.user, "alice").replace(bob.user, "bob").splitlines()
    assert (folder / "cursors.db").exists()
    return lines


def test_the_example_of_the_readme_runs(stack: RunningStack, tmp_path: Path):
    lines = run(stack, tmp_path)
    assert {line for line in lines if line[0].isdigit()} == {"1 alice: hello", "2 alice: bye"}
    assert "read by bob" in lines
