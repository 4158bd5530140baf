"""The verdict of these tests is itself put to the test: each way to break the promise turns it red."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import replace

import pytest

from stack.running import RunningStack
from tests.fault.chat import Chat, open_chat
from tests.fault.judging import OK, Stored


def lose_a_frame(chat: Chat) -> None:
    chat.watchers[0].screen.seen.seqs.pop(3)


def swap_two_frames(chat: Chat) -> None:
    seqs = chat.watchers[0].screen.seen.seqs
    seqs[2], seqs[3] = seqs[3], seqs[2]


def double_a_frame(chat: Chat) -> None:
    chat.watchers[0].screen.seen.seqs.insert(2, 2)


def answer_twice_differently(chat: Chat) -> None:
    said = next(each for each in chat.attempts if each.status in OK)
    chat.attempts.append(replace(said, said={**said.said, "messageId": "another"}))


def forget_what_was_sent(chat: Chat) -> None:
    chat.attempts.pop()


def refuse_what_was_stored(chat: Chat) -> None:
    chat.attempts.append(replace(chat.attempts.pop(), status=422, said={}))


def answer_before_an_earlier_one(chat: Chat) -> None:
    mine = sorted((a for a in chat.attempts if a.room == chat.attempts[0].room), key=lambda a: a.said["seq"])
    chat.attempts.remove(mine[-1])
    chat.attempts.append(replace(mine[-1], began=mine[0].began - 2, ended=mine[0].began - 1))


BREAKS: tuple[tuple[Callable[[Chat], None], str], ...] = (
    (lose_a_frame, "I10 lost"),
    (swap_two_frames, "I10 reordered"),
    (double_a_frame, "I10 doubled"),
    (answer_twice_differently, "I2"),
    (forget_what_was_sent, "I3"),
    (refuse_what_was_stored, "I4"),
    (answer_before_an_earlier_one, "I5"),
)


def lose_a_row(stored: Stored) -> None:
    stored.rows.pop(1)


def change_a_content(stored: Stored) -> None:
    stored.rows[2] = replace(stored.rows[2], content="else")


def leave_one_pending(stored: Stored) -> None:
    stored.rows[3] = replace(stored.rows[3], status=0)


def make_a_hole(stored: Stored) -> None:
    stored.changes.pop(4)


def store_it_twice(stored: Stored) -> None:
    stored.rows.append(replace(stored.rows[0], seq=9, message_id="another"))


DAMAGES: tuple[tuple[Callable[[Stored], None], str], ...] = (
    (lose_a_row, "I1"),
    (change_a_content, "I12"),
    (leave_one_pending, "I8"),
    (make_a_hole, "I5"),
    (store_it_twice, "I2"),
    (store_it_twice, "I6"),
)


@pytest.mark.slow
async def test_the_verdict_sees_what_is_broken(stack: RunningStack):
    async with open_chat(stack, rooms=1) as chat:
        await chat.say(8)
        await chat.settled()
        await chat.verdict()
        for damage, named in BREAKS:
            seen = chat.watchers[0].screen.seen
            attempts, seqs = list(chat.attempts), array("q", seen.seqs)
            damage(chat)
            with pytest.raises(AssertionError, match=f"{named}[: ]"):
                await chat.verdict()
            chat.attempts, seen.seqs = attempts, seqs
        await chat.verdict()
        for spoil, named in DAMAGES:
            spoil(stored := chat.stored())
            with pytest.raises(AssertionError, match=f"{named}[: ]"):
                await chat.verdict(stored)
