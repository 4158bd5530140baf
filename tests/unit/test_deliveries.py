"""Chunks: what a fetch is cut into, when a chunk is done, and how far a commit may go."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from streams.deliveries import CHUNK, Chunk, chunks, from_floor, position_behind


@dataclass
class At:
    offset: int


def at(*offsets: int) -> list[At]:
    return [At(offset) for offset in offsets]


def test_a_fetch_is_cut_into_chunks_and_partitions_take_turns():
    fetched = {"a": at(*range(5)), "b": at(*range(2)), "c": []}
    cut = [(place, [record.offset for record in records]) for place, records in chunks(fetched, size=2)]
    assert cut == [("a", [0, 1]), ("b", [0, 1]), ("a", [2, 3]), ("a", [4])]
    assert list(chunks({})) == []


@given(st.dictionaries(st.sampled_from("abc"), st.lists(st.integers(), max_size=3 * CHUNK)))
def test_chunks_have_each_record_once_and_in_order(fetched):
    cut = list(chunks(fetched))
    assert all(0 < len(records) <= CHUNK for _, records in cut)
    for place, records in fetched.items():
        assert [each for found, part in cut if found == place for each in part] == records


def test_what_is_below_the_floor_is_left_out_in_the_middle_of_a_chunk_too():
    records = at(3, 4, 7, 9)
    assert from_floor(records, None) is records
    assert from_floor(records, 3) is records
    assert [record.offset for record in from_floor(records, 5)] == [7, 9]
    assert list(from_floor(records, 10)) == []
    assert list(from_floor([], 10)) == []


def test_a_chunk_is_done_after_its_last_record_and_never_when_one_was_dropped():
    whole, part = Chunk(last=9, size=2), Chunk(last=9, size=2)
    whole.settle(is_done=True)
    assert not whole.is_settled
    whole.settle(is_done=True)
    assert (whole.is_settled, whole.is_done) == (True, True)
    part.settle(is_done=False)
    part.settle(is_done=True)
    assert (part.is_settled, part.is_done) == (True, False)


def test_a_commit_goes_behind_whole_chunks_and_never_past_an_unfinished_one():
    first, second, third = (Chunk(last, size=2) for last in (4, 9, 12))
    ring = deque([first, second, third])
    assert position_behind(ring) is None
    for chunk in (first, third):
        chunk.settle(is_done=True)
        chunk.settle(is_done=True)
    second.settle(is_done=True)
    assert position_behind(ring) == 5
    assert (position_behind(ring), list(ring)) == (None, [second, third])
    second.settle(is_done=True)
    assert (position_behind(ring), list(ring)) == (13, [])


RING = st.lists(st.integers(1, 4), min_size=1, max_size=6)


@given(RING, st.data())
def test_whatever_finishes_or_is_dropped_no_commit_passes_a_record_that_is_not_finished(sizes, data):
    ring, records = deque[Chunk](), list[tuple[int, Chunk]]()
    for size in sizes:
        begin = len(records)
        chunk = Chunk(begin + size - 1, size)
        ring.append(chunk)
        records += [(offset, chunk) for offset in range(begin, begin + size)]
    finished, committed = set[int](), 0
    for offset, chunk in data.draw(st.permutations(records)):
        is_done = data.draw(st.integers(0, 9)) > 0
        chunk.settle(is_done=is_done)
        if is_done:
            finished.add(offset)
        committed = position_behind(ring) or committed
        assert set(range(committed)) <= finished
    if len(finished) == len(records):
        assert committed == len(records)
