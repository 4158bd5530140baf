"""Quotas of uploads: how much of the disk one user may take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from domain.errors import QuotaExceeded

_OTHERS_S = 5.0
"""Time in which another upload of the user may well be complete."""
MIN_CHARGE = 16 * 1024
"""A smaller file counts as so many bytes: its row, its folder and its thumbnail take them anyway."""


@dataclass(frozen=True, slots=True)
class Quota:
    """Limits of one user, over all ingests; 0 turns one off."""

    daily_bytes: int = 2**30
    """Bytes of new files a day; the day begins at midnight UTC."""
    stored_bytes: int = 10 * 2**30
    uploads: int = 5
    """Uploads that are under way at the same time."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes that a user has stored in all, and those of today; as ``charge`` counts them."""

    stored: int = 0
    today: int = 0


def charge(size: int) -> int:
    """Return as how many bytes a file of this size counts."""
    return max(size, MIN_CHARGE)


def check_quota(quota: Quota, usage: Usage, under_way: Sequence[int], size: int, now: datetime) -> None:
    """Raise QuotaExceeded when a user may not begin an upload of this size.

    ``under_way``: sizes of the user's uploads that have begun and are not complete. They count as if they were stored.
    """
    if quota.uploads and len(under_way) >= quota.uploads:
        raise QuotaExceeded(f"at most {quota.uploads} uploads may be under way; complete one first", _OTHERS_S)
    added = charge(size) + sum(map(charge, under_way))
    if quota.stored_bytes and usage.stored + added > quota.stored_bytes:
        raise QuotaExceeded(f"the files of one user may have at most {quota.stored_bytes} bytes together")
    if quota.daily_bytes and usage.today + added > quota.daily_bytes:
        detail = f"one user may upload at most {quota.daily_bytes} bytes a day; the day begins at 00:00 UTC"
        # A new day does not help a file that is larger than what a day allows.
        raise QuotaExceeded(detail, None if charge(size) > quota.daily_bytes else _until_midnight(now))


def _until_midnight(now: datetime) -> float:
    utc = now.astimezone(UTC)
    midnight = utc.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return (midnight - utc).total_seconds()
