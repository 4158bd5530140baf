"""A contributor's commands: what ``make`` lists, and what runs before a commit."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkout import bare_environment

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def run(folder: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command that knows nothing of this run or of this user's git."""
    env = {**bare_environment(), "GIT_CONFIG_GLOBAL": "/dev/null", "HOME": str(folder)}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_make_lists_every_target_with_what_it_does():
    makefile = (ROOT / "Makefile").read_text()
    phony = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[0].split()
    rules = re.findall(r"^([a-z]+):", makefile, re.MULTILINE)
    listed = run(ROOT, "make")
    assert listed.returncode == 0, listed.stderr
    assert re.findall(r"^  make ([a-z]+) +\S", listed.stdout, re.MULTILINE) == rules
    assert sorted(phony) == sorted(rules)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with the hooks of this one, and its environment."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    for name in (".pre-commit-config.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv").symlink_to(BIN.parent)
    assert run(tmp_path, "git", "init", "-q").returncode == 0
    return tmp_path


@pytest.mark.parametrize(
    ("text", "hook"), [("import faust\n\nprint(faust)\n", "rules"), ("x  =  1\n", "format"), ("x = 1\n", None)]
)
def test_a_hook_stops_a_commit_that_the_linters_would_refuse(repository: Path, text: str, hook: str | None):
    (repository / "one.py").write_text(text)
    run(repository, "git", "add", "one.py")
    for name in ("rules", "format"):
        done = run(repository, BIN / "pre-commit", "run", name)
        assert (done.returncode != 0) == (name == hook), done.stdout + done.stderr
