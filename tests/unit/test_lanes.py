"""Lanes: each conversation in order and in its turn, many at the same time; and the rule of turns."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.lanes import BatchPolicy, Lanes
from streams.retry import RetriesExhausted
from streams.turns import turn


async def test_a_lane_keeps_the_order_of_a_key_and_takes_what_is_there():
    seen: list[list[int]] = []
    begun, release, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work(batch):
        seen.append(list(batch))
        begun.set()
        await release.wait()
        if sum(map(len, seen)) == 50:
            done.set()
        return ()

    lanes = Lanes(work, BatchPolicy(lanes=4, batch=100))
    running = asyncio.create_task(lanes.run())
    for number in range(50):
        await lanes.put(b"same", number)
    await begun.wait()
    release.set()
    await done.wait()
    running.cancel()
    assert [n for batch in seen for n in batch] == list(range(50))
    assert len(seen) <= 2


async def test_a_lane_that_fails_ends_all():
    async def work(_):
        raise RetriesExhausted("trouble")

    lanes = Lanes(work, BatchPolicy(lanes=4))
    await lanes.put(b"k", 1)
    with pytest.raises(BaseExceptionGroup):
        await lanes.run()


async def test_what_is_handed_out_turn_by_turn_is_one_batch():
    seen: list[list[int]] = []

    async def work(batch):
        seen.append(list(batch))
        return ()

    lanes = Lanes(work, BatchPolicy(lanes=1, batch=100))
    running = asyncio.create_task(lanes.run())
    for number in range(10):
        await lanes.put(b"a", number)
        await asyncio.sleep(0)  # as Faust does between two records of a fetch
    async with asyncio.timeout(5):
        while not seen:  # noqa: ASYNC110
            await asyncio.sleep(0)
    running.cancel()
    assert seen == [list(range(10))]


WEIGHTS = st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c", b"d"]), st.integers(0, 30)), max_size=40)


@given(WEIGHTS, st.integers(1, 40))
def test_a_turn_keeps_order_bounds_its_parts_and_gets_further(records, limit):
    keys, weights = [key for key, _ in records], [weight for _, weight in records]
    parts, left = turn(keys, weights, limit).parts, turn(keys, weights, limit).left
    taken = [position for part in parts for position in part]
    assert sorted([*taken, *left]) == list(range(len(records)))
    for key in set(keys):
        mine = [position for position in (*taken, *left) if keys[position] == key]
        assert mine == sorted(mine)
    assert len(parts) <= 2
    for part in parts:
        assert sum(weights[position] for position in part) <= limit or sum(weights[p] for p in part[1:]) == 0
    assert bool(taken) == bool(records)


@given(WEIGHTS, st.integers(1, 40))
def test_every_record_has_its_turn_after_as_many_as_there_are_records(records, limit):
    turns = 0
    while records:
        chosen = turn([key for key, _ in records], [weight for _, weight in records], limit)
        records = [records[position] for position in chosen.left]
        turns += 1
        assert turns <= 40


def test_small_conversations_come_before_one_of_thousands_and_one_of_these_in_each_turn():
    keys, weights = [b"A", b"a", b"B", b"b", b"A", b"a"], [5000, 2, 5000, 3, 0, 2]
    assert turn(keys, weights).parts == [[1, 3, 5], [0, 4]]
    assert turn(keys, weights).left == [2]
    assert turn([b"a"] * 100, [64] * 100).parts == [list(range(31)), list(range(31, 62))]


async def test_a_busy_conversation_does_not_hold_up_another():
    """One batch of it never ends; the others are worked on by the other lane, each in order."""
    seen: defaultdict[str, list[int]] = defaultdict(list)

    async def work(batch):
        if ("busy", 0) in batch:
            await asyncio.Event().wait()
        for key, number in batch:
            seen[key].append(number)
        return ()

    lanes = Lanes(work, BatchPolicy(lanes=2, batch=10, keys=10))
    running = asyncio.create_task(lanes.run())
    await lanes.put(b"busy", ("busy", 0))
    while lanes._ready.qsize():  # noqa: ASYNC110
        await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)
    for number in range(5):
        for key in ("busy", "x", "y"):
            await lanes.put(key.encode(), (key, number + 1))
    async with asyncio.timeout(5):
        while sum(map(len, seen.values())) < 10:  # noqa: ASYNC110
            await asyncio.sleep(0)
    running.cancel()
    assert seen == {"x": [1, 2, 3, 4, 5], "y": [1, 2, 3, 4, 5]}


async def test_a_conversation_with_a_backlog_leaves_room_for_others_in_each_batch():
    seen: list[list[tuple[str, int]]] = []

    async def work(batch):
        seen.append(list(batch))
        return ()

    lanes = Lanes(work, BatchPolicy(lanes=1, batch=10, keys=10))
    for number in range(15):
        await lanes.put(b"much", ("much", number))
    await lanes.put(b"little", ("little", 0))
    running = asyncio.create_task(lanes.run())
    async with asyncio.timeout(5):
        while sum(map(len, seen)) < 16:  # noqa: ASYNC110
            await asyncio.sleep(0)
    running.cancel()
    assert ("little", 0) in seen[0]
    assert [item for batch in seen for item in batch if item[0] == "much"] == [("much", n) for n in range(15)]


async def test_what_a_batch_leaves_comes_in_a_later_turn_and_in_order():
    seen: list[list[str]] = []

    async def work(batch):
        taken = [position for position, item in enumerate(batch) if item[0] != "h" or not position][:3]
        seen.append([batch[position] for position in taken])
        return [position for position in range(len(batch)) if position not in taken]

    lanes = Lanes(work, BatchPolicy(lanes=1, batch=8, keys=8))
    items = ["h0", "h1", "h2", "a0", "b0", "a1", "b1", "c0"]
    for item in items:
        await lanes.put(item[0].encode(), item)
    running = asyncio.create_task(lanes.run())
    async with asyncio.timeout(5):
        while sum(map(len, seen)) < len(items):  # noqa: ASYNC110
            await asyncio.sleep(0)
    running.cancel()
    for key in "habc":
        mine = [item for batch in seen for item in batch if item[0] == key]
        assert mine == [item for item in items if item[0] == key]
    assert lanes._queues == {} or all(key in (b"h", b"a", b"b", b"c") for key in lanes._queues)


async def test_too_much_that_waits_holds_back_whoever_brings_more():
    release = asyncio.Event()

    async def work(_):
        await release.wait()
        return ()

    lanes = Lanes(work, BatchPolicy(lanes=1, batch=2))
    running = asyncio.create_task(lanes.run())
    for number in range(4):
        await lanes.put(b"k%d" % number, number)
    for _ in range(10):
        await asyncio.sleep(0)  # one is in the batch
    assert lanes.put_now(b"k", 4)
    assert not lanes.put_now(b"k", 5)
    more = asyncio.create_task(lanes.put(b"k", 5))
    await asyncio.sleep(0)
    assert not more.done()
    release.set()
    async with asyncio.timeout(5):
        await more
    running.cancel()
