"""Bugs that are put into a build on purpose: each can still be put in."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.checkout import ROOT
from tests.seeded.registry import ALL

APPLY = "import sys; from tests.seeded.registry import ALL; ALL[sys.argv[1]]()"


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_bug_finds_what_it_spoils(name: str):
    done = subprocess.run([sys.executable, "-c", APPLY, name], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
