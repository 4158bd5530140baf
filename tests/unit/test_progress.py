"""The watch over a worker: idle is fine, owing work and finishing none is not."""

from __future__ import annotations

import pytest

from streams.watchdog import Progress


class Clock:
    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def progress(clock: Clock) -> Progress:
    return Progress(clock)


def test_who_is_idle_is_not_stuck(progress, clock):
    clock.at = 3600
    assert not progress.stuck(60)


def test_the_first_record_after_a_long_rest_gets_its_whole_time(progress, clock):
    clock.at = 3600
    progress.took()
    assert not progress.stuck(60)
    clock.at += 61
    assert progress.stuck(60)


def test_whoever_finishes_something_is_not_stuck(progress, clock):
    for _ in range(3):
        progress.took()
    clock.at = 59
    progress.finished(1)
    clock.at = 118
    assert not progress.stuck(60)
    clock.at = 120
    assert progress.stuck(60)
    progress.finished(2)
    assert not progress.stuck(60)


def test_a_broker_that_says_nothing_to_us_counts_as_work(progress, clock):
    clock.at = 3600
    progress.lags(None)
    clock.at += 50
    progress.lags(None)
    assert not progress.stuck(60)
    clock.at += 11
    assert progress.stuck(60)
    progress.lags(0)
    assert not progress.stuck(60)


def test_records_that_stay_in_kafka_count_though_none_came(progress, clock):
    clock.at = 3600
    for _ in range(7):
        progress.lags(5)
        assert not progress.stuck(60)
        clock.at += 10
    assert progress.stuck(60)
    progress.lags(0)
    assert not progress.stuck(60)


def test_records_that_are_dropped_again_and_again_are_no_progress(progress, clock):
    progress.lags(3)
    for _ in range(7):
        progress.took()
        clock.at += 10
        progress.dropped(1)
    assert progress.stuck(60)


def test_a_worker_outside_of_its_group_is_stuck(progress, clock):
    clock.at += 100
    progress.settles(False)
    clock.at += 59
    assert not progress.stuck(60)
    clock.at += 2
    assert progress.stuck(60)
    progress.settles(True)
    assert not progress.stuck(60)
