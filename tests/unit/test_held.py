"""What is held for a slow reader: the furthest of each subject, and not too much."""

from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st

from gateway.conflation import HELD, Held
from schemas.frames import frame
from tests import make


def status(user: str, delivered: int, read: int = 0, room: str = make.ROOM) -> bytes:
    return frame(
        "message_status", conversationId=room, userId=user, deliveredSeq=delivered, readSeq=read, seq=delivered
    )


def test_of_each_member_the_furthest_watermark_is_held():
    held = Held()
    for payload in (status("bob", 1), status("carol", 1), status("bob", 2), status("bob", 2, 1), status("bob", 1)):
        assert held.put(payload)
    assert held.take() == [status("carol", 1), status("bob", 2, 1)]
    assert not held
    assert held.take() == []


def test_of_each_conversation_the_latest_hint_is_held():
    held = Held()
    hints = [frame("new_message", conversationId=room, seq=seq) for seq in (1, 2) for room in ("a", "b")]
    assert all(map(held.put, hints))
    assert [orjson.loads(payload)["seq"] for payload in held.take()] == [2, 2]


def test_too_much_is_told():
    held = Held()
    answers = [held.put(status(f"user-{n}", 1)) for n in range(HELD // 100)]
    assert answers[0]
    assert not answers[-1]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.integers(0, 9)), max_size=50))
def test_no_order_of_arrival_hides_the_last_one(told: list[tuple[str, int, int]]):
    held, marks = Held(), dict.fromkeys("abc", (0, 0))
    chain = []
    for user, delivered, read in told:
        marks[user] = max(marks[user][0], delivered), max(marks[user][1], read)
        chain.append((user, *marks[user]))
    for user, delivered, read in reversed(chain):
        assert held.put(status(user, delivered, read))
    said = {each["userId"]: (each["deliveredSeq"], each["readSeq"]) for each in map(orjson.loads, held.take())}
    assert said == {user: marks[user] for user in {user for user, *_ in chain}}
