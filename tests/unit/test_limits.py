"""Counters: how much one may take up, and that it comes back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.limits import Bucket, Rates
from runtime.counts import Counts


def test_a_bucket_gives_its_burst_at_once_and_its_rate_afterwards():
    bucket = Bucket(2.0, 5.0)
    assert [bucket.take(7.0) for _ in range(6)] == [True] * 5 + [False]
    assert not bucket.take(7.4)
    assert bucket.take(7.5)
    assert not bucket.take(7.5)
    assert [bucket.take(100.0) for _ in range(6)] == [True] * 5 + [False]


def test_no_rate_is_no_limit():
    assert all(Bucket(0.0, 0.0).take(0.0) for _ in range(10))
    assert all(Rates(0.0, 0.0).take("a", 0.0) for _ in range(10))
    counts = Counts(0)
    assert all(counts.add("a") for _ in range(10))
    assert not counts.over("a")


@given(st.lists(st.floats(0, 100), max_size=60), st.floats(0.1, 20), st.integers(1, 20))
def test_a_bucket_never_gives_more_than_burst_and_rate(times: list[float], rate: float, burst: int):
    bucket, given_ = Bucket(rate, burst), 0
    for at in sorted(times):
        given_ += bucket.take(at)
    assert given_ <= burst + rate * (max(times, default=0) - min(times, default=0)) + 1e-6


def test_a_clock_that_goes_back_gives_nothing():
    bucket = Bucket(1.0, 3.0)
    assert sum(bucket.take(at) for at in (50.0, *[1.0] * 40)) == 3


def test_each_key_has_a_bucket_of_its_own_and_full_ones_are_forgotten():
    rates = Rates(1.0, 1.0)
    assert rates.take("a", 0.0)
    assert not rates.take("a", 0.0)
    assert rates.take("b", 0.0)
    for n in range(50_000):
        assert rates.take(str(n), n / 1000)
    assert len(rates._buckets) < 30_000


def test_counts_go_up_to_the_limit_and_are_forgotten():
    counts = Counts(2)
    assert counts.add("a")
    assert counts.add("a")
    assert not counts.add("a")
    assert counts.add("a", spare=1)
    assert counts.over("a")
    assert counts.add("b")
    for key in "aaab":
        counts.remove(key)
    assert not counts._counts
