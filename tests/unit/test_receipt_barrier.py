"""The time up to which all receipts are in the store, as one partition's or several partitions' offsets tell it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import Unavailable
from domain.receipts import Progress, ReceiptBarrier

START = datetime(2026, 11, 24, 15, tzinfo=UTC)


def second(number: float) -> datetime:
    return START + timedelta(seconds=number)


@dataclass
class Log:
    """Partitions of receipts; the stage stores what ``store`` lets it."""

    ends: dict[int, int] = field(default_factory=lambda: {0: 0, 1: 0})
    stored: dict[int, int] = field(default_factory=lambda: {0: 0, 1: 0})
    down: bool = False

    async def read(self) -> Mapping[int, Progress]:
        if self.down:
            raise Unavailable("the broker does not answer")
        return {number: Progress(end, self.stored[number]) for number, end in self.ends.items()}

    def store(self) -> None:
        self.stored = dict(self.ends)


async def test_without_a_receipt_under_way_everything_up_to_now_is_stored():
    barrier = ReceiptBarrier(Log(), 0.0, 100.0)
    assert await barrier.passed(second(0)) == second(0)
    assert await barrier.passed(second(5)) == second(5)


async def test_a_stage_that_lags_holds_the_time_back_to_what_it_has_passed():
    log = Log({0: 3, 1: 7}, {0: 3, 1: 6})
    barrier = ReceiptBarrier(log, 0.0, 100.0)
    assert await barrier.passed(second(1)) is None
    log.ends[0] = 9  # these come later, and do not hold back what came before
    log.stored[1] = 7
    assert await barrier.passed(second(2)) == second(1)
    assert await barrier.passed(second(3)) == second(1)
    log.store()
    assert await barrier.passed(second(4)) == second(4)


async def test_under_a_load_that_never_ends_the_time_moves_on():
    log, barrier = Log(), None
    barrier = ReceiptBarrier(log, 0.0, 1000.0)
    last = None
    for number in range(1, 50):
        log.ends = {0: 10 * number, 1: 5 * number}
        log.stored = {0: 10 * (number - 2), 1: 5 * (number - 2)}  # always two seconds behind
        last = await barrier.passed(second(number))
    assert last is not None
    assert last >= second(44)


async def test_after_an_outage_the_gateways_get_time_to_send_what_waits_there():
    log = Log()
    barrier = ReceiptBarrier(log, 6.0, 100.0)
    for number in range(7):
        found = await barrier.passed(second(number))
        assert (found is not None) == (number == 6)
    log.down = True
    with pytest.raises(Unavailable):
        await barrier.passed(second(7))
    log.down = False
    for number in range(8, 14):
        assert await barrier.passed(second(number)) is None
    assert await barrier.passed(second(14)) == second(14)


async def test_a_stage_that_stands_still_holds_decisions_up_for_a_bounded_time_since_the_log_answers():
    log = Log({0: 1, 1: 0})
    barrier = ReceiptBarrier(log, 6.0, 60.0)
    for number in range(60):
        assert await barrier.passed(second(number)) is None
    assert await barrier.passed(second(60)) == second(0)
    log.down = True
    with pytest.raises(Unavailable):
        await barrier.passed(second(61))
    log.down = False
    for number in range(62, 122):
        assert await barrier.passed(second(number)) is None
    assert await barrier.passed(second(122)) == second(62)


async def test_a_log_that_has_lost_records_sets_a_new_barrier():
    log = Log({0: 1000, 1: 1000})
    barrier = ReceiptBarrier(log, 0.0, 1000.0)
    assert await barrier.passed(second(0)) is None
    log.ends, log.stored = {0: 2, 1: 0}, {0: 1, 1: 0}
    assert await barrier.passed(second(1)) is None
    log.store()
    assert await barrier.passed(second(2)) == second(2)


async def test_what_has_rested_watches_the_log_anew():
    log = Log()
    barrier = ReceiptBarrier(log, 2.0, 100.0)
    for number in range(3):
        await barrier.passed(second(number))
    barrier.rest()
    assert await barrier.passed(second(50)) is None  # an outage meanwhile was not seen
    assert await barrier.passed(second(52)) == second(52)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(0, 1)),
            st.tuples(st.just("store"), st.integers(0, 1)),
            st.tuples(st.just("look"), st.just(0)),
        ),
        max_size=60,
    )
)
async def test_whatever_comes_in_whatever_order_no_receipt_before_that_time_is_missing(steps):
    log, appended = Log(), list[tuple[int, int, int]]()
    barrier = ReceiptBarrier(log, 0.0, 10_000.0)
    for at, (step, number) in enumerate(steps):
        if step == "append":
            appended.append((at, number, log.ends[number]))
            log.ends[number] += 1
        elif step == "store":
            log.stored[number] = min(log.ends[number], log.stored[number] + 1)
        elif (found := await barrier.passed(second(at))) is not None:
            before = [(partition, offset) for when, partition, offset in appended if second(when) < found]
            assert all(offset < log.stored[partition] for partition, offset in before)
