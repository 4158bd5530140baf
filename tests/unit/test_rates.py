"""Token buckets, and the shares of nodes: no more is ever given than the limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from adapters.memory.rates import MemoryRates
from domain.rates import Bucket, Budgets, Limit, Share
from ingest.limits import budgets
from runtime.settings import RateLimits
from schemas.fields import ACTIONS

TIMES = st.lists(st.tuples(st.floats(0, 100), st.integers(1, 5)), max_size=60)


@given(TIMES, st.floats(0.1, 20), st.integers(5, 20))
def test_a_bucket_never_gives_more_than_burst_and_rate(calls: list[tuple[float, int]], rate: float, burst: int):
    bucket, taken = Bucket(Limit(rate, burst)), 0
    for at, cost in sorted(calls):
        taken += cost * bucket.take(cost, at)
    times = [at for at, _ in calls]
    assert taken <= burst + rate * (max(times, default=0) - min(times, default=0)) + 1e-6


@given(st.floats(0.1, 20), st.integers(1, 20), st.integers(1, 60))
def test_a_call_passes_when_it_was_told_to_come_back_and_not_before(rate: float, burst: int, cost: int):
    bucket = Bucket(Limit(rate, burst))
    assert bucket.take(cost, 0.0)
    assert bucket.take(burst, 0.0) == (cost == 0)
    wait_s = bucket.wait_s(burst, 0.0)
    assert not bucket.take(burst, wait_s * 0.99)
    assert bucket.take(burst, wait_s * 1.001 + 1e-6)


def test_a_clock_that_goes_back_gives_nothing():
    bucket = Bucket(Limit(1.0, 3.0))
    assert sum(bucket.take(1, at) for at in (50.0, *[1.0] * 40)) == 3


def test_a_limit_of_nothing_is_no_limit():
    assert all(Bucket(Limit(0.0, 0.0)).take(1e9, 0.0) for _ in range(10))


@given(
    st.lists(st.tuples(st.sampled_from(["lease", "take", "alone"]), st.integers(1, 9)), max_size=60),
    st.integers(1, 4),
)
def test_a_share_gives_what_was_leased_and_alone_no_more_than_its_part(steps: list[tuple[str, int]], nodes: int):
    share = Share(Limit(1e-9, 60.0), nodes)
    leased, taken, alone, credit = 0.0, 0.0, 0.0, 60.0
    for step, amount in steps:
        if step == "lease" and credit >= amount:
            leased, credit = leased + amount, credit - amount
            share.lease(amount, credit, until=1e9, now=0.0)
        elif step == "take":
            taken += amount * share.take(amount, 0.0)
        elif step == "alone":
            alone += amount * share.take_alone(amount, 0.0)
    assert taken <= leased
    assert alone <= 60 / nodes + 1e-6


def test_a_share_that_has_given_the_whole_limit_has_nothing_left_alone():
    share = Share(Limit(1e-9, 60.0), 2)
    share.lease(60.0, 0.0, until=1e9, now=0.0)
    assert sum(share.take(1.0, 0.0) for _ in range(100)) == 60
    assert not share.take_alone(1.0, 0.0)
    assert share.is_empty(1.0, 0.0)


def test_a_late_lease_pays_for_what_was_given_alone_and_the_rest_goes_back():
    share = Share(Limit(1e-9, 60.0), 2)
    assert sum(share.take_alone(1.0, 0.0) for _ in range(100)) == 30
    share.lease(50.0, 10.0, until=1e9, now=0.0)
    assert (share.unused(0.0), share.to_report(0.0)) == (20.0, 0.0)
    share.give_back(0.0)
    assert (share.unused(0.0), share.to_report(0.0)) == (0.0, -20.0)
    share.lease(20.0, 10.0, until=1e9, now=0.0, reported=-20.0)
    assert (share.unused(0.0), share.to_report(0.0)) == (20.0, 0.0)


def test_what_was_given_alone_long_ago_has_come_back():
    share = Share(Limit(1.0, 60.0), 2)
    assert share.take_alone(20.0, 0.0)
    assert share.to_report(10.0) == 15.0
    assert share.to_report(60.0) == 0.0


def test_a_lease_that_has_ended_is_not_given():
    share = Share(Limit(1.0, 60.0))
    share.lease(10.0, 50.0, until=5.0, now=0.0)
    assert share.take(1.0, 4.9)
    assert not share.take(1.0, 5.0)
    share.lease(1.0, 49.0, until=20.0, now=10.0)
    assert share.unused(10.0) == 1.0


def test_more_nodes_have_smaller_shares():
    share = Share(Limit(1e-9, 60.0))
    share.among(3, 0.0)
    assert sum(share.take_alone(1.0, 0.0) for _ in range(100)) == 20
    share.among(1, 0.0)
    assert sum(share.take_alone(1.0, 0.0) for _ in range(100)) == 0


async def test_the_twin_counts_by_its_clock():
    now = 0.0
    rates, limit = MemoryRates(lambda: now), Limit(1.0, 2.0)
    assert [(await rates.take("messages", "a", limit)).wait_s for _ in range(3)] == [0.0, 0.0, 1.0]
    now = 1.5
    assert [(await rates.take("messages", "a", limit)).wait_s for _ in range(2)] == [0.0, 0.5]


def test_factors_raise_the_limits_of_those_they_name():
    limits = Budgets({"messages": Limit(10.0, 50.0)}, {"importer": 20.0, "free": 0.0, "*": 2.0})
    assert limits.of("importer", "messages") == Limit(200.0, 1000.0)
    assert limits.of("free", "messages").is_off
    assert limits.of("anybody", "messages") == Limit(20.0, 100.0)


def test_settings_make_a_limit_of_every_action():
    limits = budgets(RateLimits(messages_per_minute=60, factors="importer = 20, a=b=0.5"))
    assert limits.limits.keys() == set(ACTIONS)
    assert limits.of("alice", "messages") == Limit(1.0, 50.0)
    assert limits.of("importer", "messages") == Limit(20.0, 1000.0)
    assert limits.of("a=b", "messages") == Limit(0.5, 25.0)
    assert budgets(RateLimits(messages_per_minute=6)).of("alice", "messages") == Limit(0.1, 6.0)
    assert budgets(RateLimits(messages_per_minute=0)).of("alice", "messages").is_off


@pytest.mark.parametrize("text", ["importer", "importer=", "=3", "importer=-1", "importer=inf", "importer=nan"])
def test_factors_that_are_none_are_refused(text: str):
    with pytest.raises(ValidationError, match="factors"):
        RateLimits(factors=text)
