"""What one user may upload."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from domain.errors import QuotaExceeded
from domain.quotas import MIN_CHARGE, Quota, Usage, charge, check_quota

MB = 2**20
QUOTA = Quota(daily_bytes=100 * MB, stored_bytes=1000 * MB, uploads=3)
NOON = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("usage", "under_way", "size"),
    [
        (Usage(), (), 100 * MB),
        (Usage(stored=900 * MB), (), 100 * MB),
        (Usage(stored=500 * MB, today=50 * MB), (20 * MB, 20 * MB), 10 * MB),
    ],
)
def test_what_fills_a_quota_to_the_last_byte_is_allowed_and_a_byte_more_is_not(usage, under_way, size):
    check_quota(QUOTA, usage, under_way, size, NOON)
    with pytest.raises(QuotaExceeded):
        check_quota(QUOTA, usage, under_way, size + 1, NOON)


def test_uploads_under_way_are_counted_and_soon_fewer():
    with pytest.raises(QuotaExceeded, match="at most 3 uploads") as refused:
        check_quota(QUOTA, Usage(), (1, 1, 1), 1, NOON)
    assert 0 < refused.value.retry_after_s < 60


@pytest.mark.parametrize(("now", "seconds"), [(NOON, 43_200), (NOON.astimezone(timezone(timedelta(hours=9))), 43_200)])
def test_the_bytes_of_a_day_are_free_again_at_midnight_utc(now, seconds):
    with pytest.raises(QuotaExceeded, match="a day") as refused:
        check_quota(QUOTA, Usage(today=100 * MB, stored=100 * MB), (), 1, now)
    assert refused.value.retry_after_s == seconds


@pytest.mark.parametrize(("usage", "size"), [(Usage(stored=1000 * MB), 1), (Usage(), 101 * MB)])
def test_no_time_is_named_where_time_does_not_help(usage, size):
    with pytest.raises(QuotaExceeded) as refused:
        check_quota(QUOTA, usage, (), size, NOON)
    assert refused.value.retry_after_s is None


def test_a_small_file_counts_as_what_it_takes_on_the_disk():
    assert (charge(0), charge(1), charge(MB)) == (MIN_CHARGE, MIN_CHARGE, MB)
    with pytest.raises(QuotaExceeded):
        check_quota(QUOTA, Usage(stored=1000 * MB - MIN_CHARGE + 1), (), 0, NOON)


def test_a_quota_of_zero_is_none():
    check_quota(Quota(0, 0, 0), Usage(2**60, 2**60), (2**40,) * 1000, 2**40, NOON)
