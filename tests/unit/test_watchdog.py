"""The watch over a worker: idle is fine, owing work and finishing none is not."""

from __future__ import annotations

import pytest

from streams.watchdog import Behind, Watchdog


class Clock:
    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def lagging(records: int, position: int = 10) -> dict[str, Behind]:
    return {"message.created/0": Behind(position, records)}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watchdog(clock: Clock) -> Watchdog:
    return Watchdog(clock)


def test_who_is_idle_is_not_stuck(watchdog, clock):
    clock.at = 3600
    assert not watchdog.is_stuck(60)


def test_the_first_record_after_a_long_rest_gets_its_whole_time(watchdog, clock):
    clock.at = 3600
    watchdog.delivered(1)
    assert not watchdog.is_stuck(60)
    clock.at += 61
    assert watchdog.is_stuck(60)


def test_whoever_finishes_something_is_not_stuck(watchdog, clock):
    watchdog.delivered(3)
    clock.at = 59
    watchdog.finished(1)
    clock.at = 118
    assert not watchdog.is_stuck(60)
    clock.at = 120
    assert watchdog.is_stuck(60)
    watchdog.finished(2)
    assert not watchdog.is_stuck(60)


def test_a_batch_that_takes_minutes_is_not_stuck_while_its_parts_are_done(watchdog, clock):
    watchdog.delivered(1)
    for _ in range(5):
        clock.at += 59
        assert not watchdog.is_stuck(60)
        watchdog.progressed()
    clock.at += 61
    assert watchdog.is_stuck(60)


def test_a_broker_that_says_nothing_to_us_counts_as_work(watchdog, clock):
    clock.at = 3600
    watchdog.observe_lag(None)
    clock.at += 50
    watchdog.observe_lag(None)
    assert not watchdog.is_stuck(60)
    clock.at += 11
    assert watchdog.is_stuck(60)
    watchdog.observe_lag({})
    assert not watchdog.is_stuck(60)


def test_records_that_stay_in_kafka_count_though_none_came(watchdog, clock):
    clock.at = 3600
    for _ in range(7):
        watchdog.observe_lag(lagging(5))
        assert not watchdog.is_stuck(60)
        clock.at += 10
    assert watchdog.is_stuck(60)
    watchdog.observe_lag({})
    assert not watchdog.is_stuck(60)


def test_records_that_are_dropped_again_and_again_are_no_progress(watchdog, clock):
    watchdog.observe_lag(lagging(3))
    for _ in range(7):
        watchdog.delivered(1)
        clock.at += 10
        watchdog.dropped(1)
    assert watchdog.is_stuck(60)


def test_a_worker_outside_of_its_group_is_stuck(watchdog, clock):
    clock.at += 100
    watchdog.observe_group(is_assigned=False)
    clock.at += 59
    assert not watchdog.is_stuck(60)
    clock.at += 2
    assert watchdog.is_stuck(60)
    watchdog.observe_group(is_assigned=True)
    assert not watchdog.is_stuck(60)


def test_a_partition_that_stands_still_is_found_while_others_move(watchdog, clock):
    for n in range(31):
        moving = {"message.created/1": Behind(n, 5)}
        watchdog.observe_lag({**moving, **lagging(5 + n)})
        watchdog.progressed()
        assert watchdog.standing(300) is None
        clock.at += 10
    assert watchdog.standing(300) == "message.created/0"
    watchdog.observe_lag(lagging(4, position=11))
    assert watchdog.standing(300) is None


def test_a_partition_stands_from_when_it_lags(watchdog, clock):
    watchdog.observe_lag({})
    clock.at += 1000
    watchdog.observe_lag(lagging(1))
    watchdog.observe_lag(None)
    clock.at += 299
    assert watchdog.standing(300) is None
    watchdog.observe_lag({})
    clock.at += 2
    assert watchdog.standing(300) is None


def test_a_partition_moves_while_records_of_its_oldest_chunk_finish(watchdog, clock):
    for begun in range(40):
        watchdog.observe_lag({"message.created/0": Behind(10, 500, begun)})
        assert watchdog.standing(300) is None
        clock.at += 10
    clock.at += 300
    watchdog.observe_lag({"message.created/0": Behind(10, 500, 39)})
    assert watchdog.standing(300) == "message.created/0"
    watchdog.observe_lag({"message.created/0": Behind(50, 460)})
    assert watchdog.standing(300) is None
