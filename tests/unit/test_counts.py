"""Counting by a cursor: each message once, however often and in whatever batches the log gives it out."""

from __future__ import annotations

import asyncio
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.memory.effects import MemoryCounts
from streams.stages.analytics import tick
from tests import make

ROOMS = ("a", "b", "c")


@settings(max_examples=60, deadline=None)
@given(
    log=st.lists(st.tuples(st.sampled_from(ROOMS), st.integers(0, 3)), max_size=40),
    steps=st.lists(st.tuples(st.integers(1, 12), st.integers(0, 15)), max_size=20),
)
def test_totals_are_those_of_the_log_after_any_crashes(log, steps):
    seqs: Counter[str] = Counter()
    ticks = []
    for room, minute in log:
        seqs[room] += 1 + minute % 2  # other changes take seqs too
        at = f"2026-11-24T15:0{minute}:30.000Z"
        ticks.append(tick(make.message(conversation_id=room, seq=seqs[room], created_at=at)))
    counts, read = MemoryCounts(), 0
    for size, back in [*steps, (len(ticks) + 1, 0), (len(ticks) + 1, 0)]:
        asyncio.run(counts.add(ticks[read : read + size]))
        read = max(0, min(read + size, len(ticks)) - back)  # what was not committed comes again
    asyncio.run(counts.add(ticks))
    assert counts.totals == Counter((t.conversation_id, t.minute) for t in ticks)
