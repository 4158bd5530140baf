"""Schedules: every run with random faults bites, and no role is broken before it has recovered."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.errors import OperatorError
from stack.topology import role, single
from verify import fake_clock, planning
from verify.faults import FAULTS, fault, kind_of
from verify.planning import NONE, RANDOM, Faults, left_out, plan_faults
from verify.schedule import BITES, KINDS, LEAST_S, arrange, draw

SEEDS, FEW_SEEDS = range(1000), range(100)
LOADS = ((20, 100.0), (2_000, 100.0), (2_000, 40.0), (6_000, 40.0), (20_000, 40.0), (20_000, 2_000.0))
"""Messages, and most of them in a second; loads of one length have the same schedules."""


def first_word(name: str) -> str:
    return name.partition("-")[0]


@pytest.mark.parametrize("is_cluster", [False, True])
def test_random_faults_bite_with_every_seed(is_cluster: bool, monkeypatch: pytest.MonkeyPatch):
    reasons = left_out(is_cluster=is_cluster)
    monkeypatch.setattr(planning, "left_out", lambda **_: reasons)
    lengths = {
        plan_faults(RANDOM, 1, messages / rate, is_cluster=is_cluster).seconds: max(LEAST_S, messages / rate)
        for messages, rate in LOADS
    }
    assert all(made == wanted for made, wanted in lengths.items())
    drawn: set[str] = set()
    for seconds in lengths:
        for seed in SEEDS if seconds < 200 else FEW_SEEDS:
            faults = plan_faults(RANDOM, seed, seconds, is_cluster=is_cluster)
            names = [planned.fault for planned in faults.plan]
            assert len(names) >= max(BITES, int(faults.seconds / 20))
            assert len({first_word(name) for name in names}) >= KINDS
            drawn.update(names)
    assert drawn == FAULTS.keys() - reasons.keys()


def test_every_kind_is_drawn_on_one_stack_or_the_other(monkeypatch: pytest.MonkeyPatch):
    """On a machine where everything is there that a fault may need."""
    monkeypatch.setattr(planning, "can_mount", lambda: True)
    monkeypatch.setattr(planning, "find_haproxy", lambda: "/usr/sbin/haproxy")
    monkeypatch.setattr(fake_clock, "library", lambda: "libfaketime.so.1")
    out = [left_out(is_cluster=is_cluster) for is_cluster in (False, True)]
    assert out[0].keys() & out[1].keys() == set()
    drawn = {
        kind_of(planned.fault)
        for reasons in out
        for seed in SEEDS
        for planned in draw(seed, LEAST_S, FAULTS.keys() - reasons.keys())
    }
    assert drawn == set(map(kind_of, FAULTS))


def test_what_is_missing_is_left_out_with_its_reason(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(planning, "can_mount", lambda: False)
    monkeypatch.setattr(planning, "find_haproxy", lambda: None)
    monkeypatch.setattr(fake_clock, "library", lambda: None)
    for is_cluster in (False, True):
        faults = plan_faults(RANDOM, 1, 600, is_cluster=is_cluster)
        by_kind = {kind: reason for reason, kinds in faults.left_out.items() for kind in kinds}
        assert "libfaketime" in by_kind["clock"]
        assert "root" in by_kind["full"]
        assert "HAProxy" in by_kind["reload"]
        assert not {"clock", "full", "reload"} & {kind_of(planned.fault) for planned in faults.plan}


@settings(deadline=None, max_examples=100)
@given(seed=st.integers(0, 2**32), seconds=st.floats(LEAST_S, 900))
def test_a_schedule_never_breaks_what_has_not_recovered(seed: int, seconds: float):
    plan = draw(seed, seconds, FAULTS)
    assert plan == draw(seed, seconds, FAULTS) == sorted(plan)
    recovered: dict[str, float] = {}
    for at, name, lasts in plan:
        each = fault(name)
        if each.at_end:
            assert at + 1 < seconds < at + lasts
            assert not any(recovered.get(target, 0) > at for target in each.targets)
            continue
        for target in each.targets:
            assert recovered.get(target, 0) <= at
            recovered[target] = at + lasts + each.recover_s
    assert max(recovered.values()) <= seconds + 1e-6


def test_named_faults_come_once_each_and_get_the_time_that_they_need():
    names = ["kill-status", "kill-gateway", "kill-ingest"]
    plan, seconds = arrange(7, names, 90)
    assert (sorted(planned.fault for planned in plan), seconds) == (sorted(names), 90)
    plan, seconds = arrange(7, ["pause-kafka", "kill-kafka", "wipe-kafka"], 20)
    assert len(plan) == 3
    assert max(planned.ends_s for planned in plan) <= seconds
    with pytest.raises(KeyError):
        arrange(7, ["earthquake"], 60)


def test_what_a_user_gives_becomes_a_schedule():
    assert plan_faults(NONE, 1, 20, is_cluster=False) == Faults(seconds=20)
    assert [planned.fault for planned in plan_faults(" kill-status ", 1, 20, is_cluster=False).plan] == ["kill-status"]
    with pytest.raises(OperatorError, match="no fault 'earthquake'"):
        plan_faults("earthquake", 1, 20, is_cluster=False)


@pytest.mark.parametrize("given", [{"kafka"}, {"postgres"}, {"valkey"}, {"kafka", "postgres", "valkey"}], ids=sorted)
@pytest.mark.parametrize("is_cluster", [False, True])
def test_no_fault_breaks_a_server_that_is_given(is_cluster: bool, given: set[str]):
    faults = plan_faults(RANDOM, 1, 600, is_cluster=is_cluster, given=given)
    out = left_out(is_cluster=is_cluster, given=given)
    broken = {target for name in FAULTS.keys() - out.keys() for target in fault(name).targets}
    assert broken.isdisjoint(given | ({"postgres-replica"} if "postgres" in given else set()))
    assert len({kind_of(planned.fault) for planned in faults.plan}) >= KINDS
    for name in ("kafka", "postgres", "valkey"):
        refused = [f"kill-{name}", f"hole-{name}", f"end-{name}", "blackout"]
        for each in refused if name in given else ():
            with pytest.raises(OperatorError, match=f"{each} must be left out: .* is given"):
                plan_faults(f"kill-status,{each}", 1, 20, is_cluster=is_cluster, given=given)
    if given == {"valkey"}:
        assert {"flush-redis", "hole-ingest-valkey", "lost-folder-valkey"} <= out.keys()
    if given == {"postgres"}:
        assert {"kill-status-in-effect", "kill-postgres-unflushed", "cut-answer-postgres"} <= out.keys()


def test_a_blackout_breaks_every_process():
    single_roles = {role(name) for name in (*single().apps, *single().brokers, *single().caches, "postgres")}
    assert single_roles - {"audit"} <= set(fault("blackout").targets)


def test_kinds_are_told_by_name():
    assert [kind_of(name) for name in ("kill-status", "kill-status-again", "hole-ws-long", "blackout")] == [
        "kill",
        "kill-again",
        "hole-long",
        "blackout",
    ]
