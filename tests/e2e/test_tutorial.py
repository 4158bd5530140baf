"""Everything that docs/tutorial.md asks to paste, pasted; every answer that it shows, compared."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stack.child import end_with_parent
from stack.running import RunningStack

from .conftest import ROOT, status, until

PAGE = ROOT / "docs" / "tutorial.md"
_BLOCK = re.compile(r"^```(sh|text)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)


def blocks() -> list[tuple[str, list[str]]]:
    """Return each block to paste, with the lines that the page shows as its answer."""
    found: list[tuple[str, list[str]]] = []
    for kind, text in _BLOCK.findall(PAGE.read_text()):
        if kind == "sh":
            found.append((text, []))
        else:
            found[-1][1].extend(text.splitlines())
    return found


def pattern(line: str) -> str:
    """Return a pattern for a line of an answer, where ``…`` stands for anything.

    The page shows tables as a terminal does; here they come through a pipe, with a tab between two cells.
    """
    words = re.split(r" {2,}", line)
    return "^" + r"(?: +|\t)".join(".*".join(map(re.escape, cell.split("…"))) for cell in words) + "$"


@pytest.mark.timeout(170)
def test_every_command_of_the_tutorial_works_and_answers_as_it_shows(stack: RunningStack, tmp_path: Path):
    [(start, _), *pasted] = blocks()
    assert start == "make up\n", "the stack of this run stands for it"
    assert sum(len(answers) for _, answers in pasted) > 15
    program = tmp_path / "millrace"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cli.main "$@"\n')
    program.chmod(0o755)
    marks = [f"{text}echo '== {number}'\n" for number, (text, _) in enumerate(pasted)]
    script = "".join(marks).replace(".venv/bin/millrace", f'"{program}"')
    said = bash(script, stack)
    parts = re.split(r"^== \d+$", said, flags=re.MULTILINE)
    for part, (text, answers) in zip(parts[:-1], pasted, strict=True):
        for answer in answers:
            assert re.search(pattern(answer), part, re.MULTILINE), f"{answer}\nis not in the answer to\n{text}\n{part}"
    until(lambda: status(stack)["state"] == "ready")


def bash(script: str, stack: RunningStack) -> str:
    """Run a script as in a terminal in the checkout, on the stack of this run; return what it prints."""
    us = os.getpid()
    env = {k: v for k, v in os.environ.items() if not k.startswith("MILLRACE_")}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=ROOT,
        env={**env, "MILLRACE_DATA_DIR": str(stack.data)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=160,
        check=False,
        preexec_fn=lambda: end_with_parent(us),
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
