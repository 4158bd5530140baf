"""A trial with faults, as a user starts it: they take effect, and the promise is kept all the same."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.e2e.conftest import millrace
from verify.faults import kind_of
from verify.schedule import BITES, KINDS


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("options", [(), ("--cluster", "--seed", "3")], ids=["default", "cluster"])
def test_random_faults_take_effect_and_the_promise_is_kept(options: tuple[str, ...]):
    done = millrace("verify", *options, "--json", timeout=590)
    assert done.stdout, done.stderr
    made = json.loads(done.stdout)
    assert (done.returncode, made["verdict"]) == (0, "kept"), (made["violations"], made["faults"], made["data"])
    assert made["faultsTookEffect"] >= BITES, made["faults"]
    assert len({kind_of(each["fault"]) for each in made["faults"] if each["tookEffect"]}) >= KINDS


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_fault_that_cannot_be_made_puts_nothing_to_the_test():
    done = millrace("verify", "--messages", "100", "--faults", "reload-haproxy", "--json", timeout=290)
    made = json.loads(done.stdout)
    assert (done.returncode, made["verdict"]) == (2, "not put to the test"), done.stderr
    assert made["violations"] == []
    [fault] = made["faults"]
    assert "no process haproxy" in fault["impossible"]
    shutil.rmtree(made["data"])
