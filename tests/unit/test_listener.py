"""Frames that ``millrace listen`` prints, and when it has printed all that was wanted."""

from __future__ import annotations

from typing import Any

from cli.chat import Listener

ROOM, OTHER = "01900000-0000-7000-8000-000000000001", "01900000-0000-7000-8000-000000000002"


def message(seq: int, room: str = ROOM) -> dict[str, Any]:
    return {"type": "new_message", "conversationId": room, "seq": seq}


def printed(listener: Listener, *frames: dict[str, Any]) -> list[int]:
    """The seqs of the frames of the conversation that are printed, until the last one wanted."""
    seqs = []
    for frame in frames:
        if listener._is_next(frame):
            if frame.get("conversationId") == ROOM:
                seqs.append(frame["seq"])
            if listener._is_last(frame):
                break
    return seqs


def listener(messages: int | None = None, after: int = 0) -> Listener:
    return Listener("", "", ROOM, after, messages)


def test_hints_that_come_before_their_turn_cost_no_message():
    joined = {"type": "joined", "id": ROOM, "seq": 8}
    assert printed(listener(after=5), message(8), message(6), message(7), message(8), joined, message(9)) == [
        6,
        7,
        8,
        9,
    ]


def test_repeats_are_not_printed():
    joined = {"type": "joined", "id": ROOM, "seq": 2}
    assert printed(listener(), message(1), message(2), joined, message(2), message(1), message(3)) == [1, 2, 3]


def test_what_was_told_before_the_join_ended_is_not_printed_after_it():
    assert printed(listener(), {"type": "joined", "id": ROOM, "seq": 4}, message(4), message(5)) == [5]


def test_messages_of_other_conversations_do_not_count():
    joined = {"type": "joined", "id": ROOM, "seq": 0}
    frames = (message(1, OTHER), message(2, OTHER), joined, message(1), message(2), message(3))
    assert printed(listener(messages=2), *frames) == [1, 2]


def test_without_a_conversation_all_messages_count():
    anywhere = Listener("", "", None, 0, 2)
    frames = [message(7), message(3, OTHER), message(8)]
    assert [frame for frame in frames if anywhere._is_next(frame)] == frames
    assert [anywhere._is_last(frame) for frame in frames[:2]] == [False, True]
