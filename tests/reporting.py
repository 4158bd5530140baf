"""Reports of a test run: the test that takes long, while it does, and in one line what was skipped and why."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack

import pytest

from stack.progress import Progress


class Reporting:
    """A pytest plugin. pytest itself shows a dot when a test has ended, and nothing before."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._out = os.fdopen(os.dup(1), "w")  # while a test runs, pytest keeps what is written to the first one
        self._progress = Progress(write=self._write)
        self._all, self._now = ExitStack(), ExitStack()

    def _write(self, line: str) -> None:
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None and terminal.currentfspath is not None:
            terminal.currentfspath = None  # it names the file again before the next dot
            line = f"\n{line}"
        self._out.write(f"{line}\n")
        self._out.flush()

    def _begin(self, name: str) -> None:
        self._now.close()
        self._now.enter_context(self._progress.task(name, done=None))

    def pytest_sessionstart(self) -> None:
        self._all.enter_context(self._progress)
        self._begin("looking for tests")

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._begin(nodeid)

    def pytest_runtest_logfinish(self) -> None:
        self._now.close()
        self._progress.printed()

    def pytest_sessionfinish(self) -> None:
        self._now.close()
        self._all.close()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if line := skipped(terminalreporter.stats.get("skipped", ())):
            terminalreporter.write_line(line)


def skipped(reports: Iterable[pytest.TestReport]) -> str:
    """Return one line that says how many tests were skipped for each reason; empty when none was."""
    reasons = Counter(_reason(report) for report in reports)
    said = "; ".join(f"{count} because {reason}" for reason, count in reasons.most_common())
    return f"skipped: {said}" if said else ""


def _reason(report: pytest.TestReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")
