"""The first two commands of the README and its first screen, in fresh checkouts on machines of several kinds."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from stack.progress import silent
from stack.running import RunningStack
from stack.servers.data_dir import nobody
from stack.servers.java import caches, kafka_jars
from tests.checkout import READY, ROOT, Checkout, Running, bare_environment, give
from tests.folders import open_folder

SILENT_S = 8.0
"""The promise is 5 s; a busy machine may be late."""
SLOW = pytest.mark.timeout(900)  # a slow line has packages to fetch
_PLACEHOLDER = "DIR"


def first_screen() -> tuple[str, list[str], list[str]]:
    """Return what the README shows before the promise: lines to paste, the commands to look around with, and the
    answers shown, as patterns: ``…`` stands for anything."""
    text = (ROOT / "README.md").read_text().partition("## The promise")[0]
    first, *blocks = re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)
    assert [line.split()[:2] for line in first.splitlines()] == [["make", "up"], ["make", "test"]]
    pasted = re.sub(r"^    ", "", "".join(blocks), flags=re.MULTILINE)
    around = re.findall(r"^\| `(\.venv/bin/millrace [^`]+)`", text, re.MULTILINE)
    shown = "".join(re.findall(r"^```text\n(.*?)^```", text, re.MULTILINE | re.DOTALL)).replace("01a228d7-…", "…")
    return pasted, around, [".*".join(map(re.escape, answer.split("…"))) for answer in shown.splitlines()]


def the_first_screen_works(checkout: Checkout) -> None:
    """All of it, and what is to be pasted a second time."""
    pasted, around, answers = first_screen()
    assert (pasted.count("curl"), pasted.count("millrace"), len(answers)) == (3, 3, 8)
    minutes = [line for line in around if "verify" in line or _PLACEHOLDER in line]
    assert (len(around), len(minutes)) == (11, 2), "all others are run here"
    for script in ("\n".join([pasted, *(line for line in around if line not in minutes)]), pasted):
        said = checkout.run("bash", "-euo", "pipefail", "-c", script)
        for answer in answers:
            assert re.search(f"^{answer}$", said, re.MULTILINE), f"{answer} is not in\n{said}"


def never_silent_before_it_is_ready(running: Running) -> None:
    for (before, what), (after, _) in pairwise(running.lines):
        if READY in what:
            return
        assert after - before < SILENT_S, f"silent for {after - before:.1f} s after: {what}"


@dataclass
class Others:
    """A checkout of the user nobody, who has no home and no rights. It is set up while the first one is used, with the
    packages that pip has fetched for that one."""

    folder: Path
    packages: Path
    checkout: Checkout | None = None
    setting_up: subprocess.Popen[str] | None = None
    said: str = ""

    def begin(self) -> None:
        user = nobody()
        if user is None or self.checkout is not None:
            return
        python = python_for(user)
        if python is None:
            return
        shutil.copytree(self.packages, self.folder / "packages")
        give(self.folder / "packages", user)
        env = {**bare_environment(), "PIP_CACHE_DIR": str(self.folder / "packages")}
        self.checkout = Checkout(self.folder / "millrace", env, user)
        self.setting_up = self.checkout.popen("make", "setup", f"PYTHON={python}")

    def ready(self) -> Checkout:
        """The checkout, set up. Skips the test where there can be none."""
        if nobody() is None:
            pytest.skip("this run is that of an ordinary user, and only root can become another one")
        self.begin()
        if self.checkout is None or self.setting_up is None:
            pytest.skip("there is no Python 3.11 with venv that the user nobody may run")
        if not self.said:
            self.said, _ = self.setting_up.communicate()
        assert self.setting_up.returncode == 0, self.said
        return self.checkout

    def end(self) -> None:
        """End a setting up for which no test has waited."""
        if self.setting_up is not None and self.setting_up.poll() is None:
            os.killpg(self.setting_up.pid, signal.SIGKILL)
            self.setting_up.wait()


def python_for(user: tuple[int, int]) -> str | None:
    """An interpreter that this user may run."""
    check = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))"
    names = ("python3", "python3.14", "python3.13", "python3.12", "python3.11")
    found = [path for name in names if (path := shutil.which(name, path="/usr/local/bin:/usr/bin:/bin"))]
    for python in (getattr(sys, "_base_executable", sys.executable), *found):
        with suppress(OSError):
            tried = subprocess.run(
                [python, "-c", check], user=user[0], group=user[1], extra_groups=[], cwd="/", capture_output=True
            )
            if tried.returncode == 0:
                return python
    return None


@pytest.fixture(scope="module")
def others() -> Iterator[Others]:
    with open_folder("others") as folder:
        packages = folder / "fetched"
        packages.mkdir()
        made = Others(folder, packages)
        yield made
        made.end()


@pytest.mark.slow
@SLOW
def test_below_a_closed_folder_with_an_odd_name_without_a_home_beside_another_stack(
    stack: RunningStack, tmp_path: Path, others: Others
):
    """As root nobody else may enter; as an ordinary user it is a home. The interpreter is named."""
    closed = tmp_path / "Mühle am Bach – l'été"
    closed.mkdir(mode=0o700)
    cache = next(cache for cache in caches() if cache.exists()).parent  # the jars of Kafka are there already
    python = getattr(sys, "_base_executable", sys.executable)
    env = {"HOME": "/dev/null", "PIP_CACHE_DIR": str(others.packages), "XDG_CACHE_HOME": str(cache)}
    checkout = Checkout(closed / "millrace", {**bare_environment(), **env})
    try:
        with checkout.up(f"PYTHON={python}") as running:
            others.begin()
            assert re.search(r"^ +[\d.]+ s  pip: done in", running.text, re.MULTILINE)
            for name in ("postgres", "valkey", "kafka", "ingest", "gateway", "status", "media", "audit"):
                assert re.search(rf"{name}: ready in [\d.]+ s", running.text)
            the_first_screen_works(checkout)
            status = checkout.run(".venv/bin/millrace", "status")
            assert status.startswith("ready")
            assert str(stack.data) not in status
        never_silent_before_it_is_ready(running)
        assert "the data stays in" in running.text
        said = checkout.run("make", "test", "TESTS=tests/unit/test_stack_ports.py")
        assert re.search(r"\d+ passed", said)
        assert checkout.run("make", "clean").count("the data stays: ") == 1
        assert not (checkout.folder / ".venv").exists()
    finally:
        checkout.remove()


@pytest.mark.slow
@SLOW
async def test_as_a_user_without_rights_and_without_a_home(others: Others):
    checkout = others.ready()
    jars, cache = await kafka_jars(silent()), checkout.folder / ".venv" / "cache"
    shutil.copytree(jars, cache / "millrace" / jars.name)  # Maven has a test of its own
    give(cache, checkout.user)
    with checkout.up("UP=--servers-only") as running:
        assert "kafka: ready in" in running.text
    never_silent_before_it_is_ready(running)
    one = "tests/e2e/test_up.py::test_data_stays_and_a_second_stack_in_the_folder_is_refused"
    assert "1 passed" in checkout.run("make", "test", f"TESTS={one}")


@pytest.mark.slow
@SLOW
def test_maven_works_for_a_user_without_a_home(others: Others):
    checkout = others.ready()
    shutil.rmtree(checkout.folder / ".venv" / "cache", ignore_errors=True)
    said = checkout.run("make", "jars")
    assert re.search(r"Kafka [\d.]+ is in .*/\.venv/cache/millrace/kafka-", said)


def test_an_interpreter_that_is_too_old_or_missing_is_named(tmp_path: Path):
    old = tmp_path / "old python"
    old.write_text("#!/bin/sh\n[ \"$1\" = -V ] && echo 'Python 3.9.2'\nexit 1\n")
    old.chmod(0o755)
    for python, words in ((old, "is: Python 3.9.2"), (tmp_path / "none", f"{tmp_path / 'none'} is: ")):
        command = ["make", "setup", f"PYTHON={python}"]
        done = subprocess.run(command, cwd=ROOT, env=bare_environment(), capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert "Python 3.11 or later is needed" in done.stderr
        assert words in done.stderr
