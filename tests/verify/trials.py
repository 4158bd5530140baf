"""Trials of ``millrace verify``, run as a user runs them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.e2e.conftest import millrace
from verify.faults import kind_of
from verify.schedule import BITES, KINDS


@dataclass(frozen=True)
class Ended:
    """A trial that has ended: its exit code, its report, and what it printed besides."""

    code: int
    report: dict[str, Any]
    log: str


def trial(*options: str, bug: str = "", environment: Mapping[str, str] | None = None, wait: float = 900) -> Ended:
    """Run a trial, of a build with a bug where one is named; what it keeps of a broken promise is removed."""
    seeded = {"MILLRACE_EXEC_WRAPPER": "tests.seeded", "MILLRACE_BUG": bug} if bug else {}
    done = millrace("verify", *options, "--json", env={**os.environ, **seeded, **(environment or {})}, timeout=wait)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    if bug and report["data"]:
        shutil.rmtree(report["data"])
    return Ended(done.returncode, report, done.stderr)


def but_slow(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the violations that are not of time: where two trials run at once, times say nothing."""
    return [violation for violation in report["violations"] if violation["sort"] != "slow"]


def assert_bites(report: dict[str, Any]) -> None:
    """Assert that enough faults took effect, of enough kinds."""
    assert report["faultsTookEffect"] >= BITES, report["faults"]
    assert len({kind_of(each["fault"]) for each in report["faults"] if each["tookEffect"]}) >= KINDS
