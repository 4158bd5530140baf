"""Retries: the first failure of each cause is told to operators, repeats are not."""

from __future__ import annotations

import pytest
import structlog

from domain.errors import Unavailable
from streams.retry import RetriesExhausted, RetryPolicy

QUICK = RetryPolicy(total_s=2, attempt_s=0.5, first_s=0.001, most_s=0.002)
LOCKED = Unavailable(
    "PostgreSQL waits too long for a lock (55P03); try again", "canceling statement due to lock timeout"
)


async def test_the_first_failure_of_each_cause_is_a_warning_and_so_is_the_end_of_trouble():
    failures = [LOCKED, LOCKED, LOCKED, Unavailable("Kafka does not answer"), LOCKED]

    async def work() -> str:
        if failures:
            raise failures.pop(0)
        return "done"

    with structlog.testing.capture_logs() as lines:
        assert await QUICK.call(work) == "done"
    warned = [line for line in lines if line["log_level"] == "warning"]
    assert [line["event"] for line in warned] == ["attempt_failed", "attempt_failed", "attempt_succeeded"]
    assert (warned[0]["reason"], warned[0]["driver"]) == (str(LOCKED), LOCKED.driver)
    assert warned[1]["reason"] == "Kafka does not answer"


async def test_nothing_is_logged_where_nothing_fails():
    async def work() -> int:
        return 1

    with structlog.testing.capture_logs() as lines:
        assert await QUICK.call(work) == 1
    assert not lines


async def test_the_last_words_name_the_cause():
    async def work() -> None:
        raise LOCKED

    policy = RetryPolicy(total_s=0.01, attempt_s=0.5, first_s=0.002)
    with pytest.raises(RetriesExhausted, match=r"trouble lasted over .*waits too long for a lock \(55P03\)"):
        await policy.call(work)
