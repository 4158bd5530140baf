"""When a child that answers nothing is given up: after a pause that no machine makes by itself."""

from __future__ import annotations

import pytest

from stack.silence import SILENT_S, Silence

LOOK_S = 10.0


class Watched:
    """A child that is asked every ten seconds by a clock of its own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.answers = True
        self.silence = Silence(self._alive, start_s=90.0, clock=lambda: self.now)

    async def _alive(self) -> bool:
        return self.answers

    async def after(self, seconds: float) -> str | None:
        """Return the first reason within so many seconds."""
        until = self.now + seconds
        while self.now < until:
            self.now += LOOK_S
            if reason := await self.silence.reason(0):
                return reason
        return None


@pytest.fixture
def child() -> Watched:
    return Watched()


async def test_one_that_answers_is_left_alone(child: Watched):
    assert await child.after(3600) is None


@pytest.mark.parametrize("pause_s", [10, 30, SILENT_S - LOOK_S])
async def test_a_pause_is_no_silence_and_the_next_one_is_measured_anew(child: Watched, pause_s: float):
    for _ in range(5):
        child.answers = True
        assert await child.after(20) is None
        child.answers = False
        assert await child.after(pause_s) is None


async def test_one_that_stays_silent_is_given_up(child: Watched):
    await child.after(20)
    child.answers = False
    assert await child.after(SILENT_S) == "has not answered for 60 s"


async def test_the_time_in_which_nobody_asked_does_not_count(child: Watched):
    await child.after(20)
    child.answers = False
    child.now += 3600  # the machine slept, or the supervisor was stopped
    assert await child.silence.reason(0) is None
    assert await child.after(SILENT_S - LOOK_S) == "has not answered for 60 s"


async def test_one_that_has_not_answered_yet_is_judged_by_its_work(child: Watched):
    child.answers = False
    assert await child.after(90 - LOOK_S) is None
    assert await child.after(30) == "has stood still for 90 s"
