"""Rules for reads from a replica: it has what the caller can have seen, and follows this very primary."""

from __future__ import annotations

from dataclasses import replace

import pytest

from domain.replicas import LOOK_S, Doubt, Gate, LagMeter, Position, Replayed, doubt, is_ahead

HERE = Position(system=7, timeline=2, epoch="e3", lsn=1000)


def found(lsn: int = 1000, **other: object) -> Replayed:
    return Replayed(replace(HERE, lsn=lsn), **other)


@pytest.mark.parametrize(
    ("replayed", "expected"),
    [
        (found(1000), None),
        (found(1001), None),
        (found(999), Doubt.LAGGING),
        (found(5000, is_standby=False), Doubt.PROMOTED),
        (found(5000, is_direct=False), Doubt.POOLED),
        (Replayed(replace(HERE, timeline=1, lsn=5000)), Doubt.OTHER_HISTORY),
        (Replayed(replace(HERE, timeline=3)), Doubt.OTHER_HISTORY),
        (Replayed(replace(HERE, system=8)), Doubt.OTHER_HISTORY),
        (Replayed(replace(HERE, epoch="e2", lsn=5000)), Doubt.OTHER_HISTORY),
        (Replayed(replace(HERE, epoch=None, lsn=5000)), Doubt.OTHER_HISTORY),
        (Replayed(replace(HERE, epoch="e2", lsn=999)), Doubt.LAGGING),
    ],
)
def test_a_replica_answers_only_with_all_that_was_visible_on_this_primary(replayed: Replayed, expected: Doubt | None):
    assert doubt(HERE, replayed) is expected


def test_a_replica_that_is_ahead_of_its_primary_followed_another_history():
    assert is_ahead(found(1001), HERE)
    assert not is_ahead(found(1000), HERE)


def test_the_gate_opens_by_a_look_alone():
    gate = Gate()
    assert not gate.is_open
    assert gate.looked(None, 1.0) and gate.is_open
    assert gate.failed(Doubt.LAGGING, 2.0) and not gate.is_open
    assert not gate.failed(Doubt.AWAY, 2.1), "a read from before the gate shut says nothing new"
    assert gate.looked(None, 3.0) and gate.is_open
    assert not gate.looked(None, 4.0)


def test_a_read_that_stood_in_the_way_of_the_replay_shuts_nothing():
    gate = Gate(None)
    assert not gate.failed(Doubt.CONFLICT, 1.0)
    assert gate.is_open


def test_looks_at_an_absent_replica_grow_rare_and_at_a_lagging_one_do_not():
    gate = Gate()
    pauses = []
    for _ in range(6):
        gate.looked(Doubt.AWAY, 1.0)
        pauses.append(gate.pause_s())
    assert pauses == [LOOK_S, 2, 4, 8, 8, 8]
    gate.looked(Doubt.LAGGING, 1.0)
    assert gate.pause_s() == LOOK_S
    gate.looked(None, 1.0)
    assert gate.pause_s() == LOOK_S


def test_the_gate_knows_for_how_long_it_is_shut_whatever_the_reasons():
    gate = Gate(None)
    assert gate.shut_s(5.0) == 0
    gate.failed(Doubt.SLOW, 10.0)
    gate.looked(Doubt.AWAY, 12.0)
    assert gate.shut_s(15.0) == 5
    gate.looked(None, 16.0)
    assert gate.shut_s(17.0) == 0


def test_the_lag_in_seconds_is_the_age_of_the_first_place_not_reached():
    meter = LagMeter()
    assert meter.seconds(100, 100, now=0.0) == 0
    assert meter.seconds(200, 100, now=1.0) == 0, "it has just been written"
    assert meter.seconds(300, 150, now=2.0) == 1
    assert meter.seconds(300, 250, now=3.0) == 1, "the place of one second ago is reached, that of two is not"
    assert meter.seconds(300, 300, now=4.0) == 0


def test_a_replica_that_stands_still_for_long_lags_all_that_time():
    meter = LagMeter()
    for second in range(10_000):
        lag = meter.seconds(1000 + second, 10, now=float(second))
    assert lag == 9_999
    assert meter.seconds(20_000, 20_000, now=10_001.0) == 0
