"""Merging receipts, spending hints, naming channels, dispatching events."""

from __future__ import annotations

import asyncio

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.memory.log import MemoryLog
from domain.changes import change_of
from gateway import channels
from gateway.channels import Envelope, Kind, opened
from gateway.hint_budget import HintBudget, ListBudget
from gateway.publications import ListHint, publications_of
from gateway.receipts import EVERY_S, ReceiptBuffer, Receipts
from schemas.events import ConversationChanged, MessageStatus
from tests import make

KEY = (make.ROOM, "bob", "phone")


def test_the_first_receipt_is_told_at_once_and_then_one_a_second():
    merged = ReceiptBuffer()
    merged.note(KEY, 1, 0)
    assert merged.due(10.0) == {KEY: (1, 0)}
    merged.note(KEY, 2, 0)
    merged.note(KEY, 5, 0)
    assert merged.due(10.5) == {}
    assert merged.due(10.0 + EVERY_S) == {KEY: (5, 0)}
    assert merged.due(99.0) == {}


def test_the_first_read_receipt_waits_for_no_delivery():
    merged = ReceiptBuffer()
    merged.note(KEY, 1, 0)
    assert merged.due(10.0) == {KEY: (1, 0)}
    merged.note(KEY, 1, 1)
    assert merged.due(10.2) == {KEY: (1, 1)}
    merged.note(KEY, 2, 0)
    assert merged.due(10.0 + EVERY_S) == {}, "what was read was delivered, too"
    merged.note(KEY, 2, 2)
    assert merged.due(10.1 + EVERY_S) == {}
    assert merged.due(10.2 + EVERY_S) == {KEY: (2, 2)}


@given(st.lists(st.tuples(st.integers(0, 400), st.booleans()), max_size=60))
def test_receipts_of_a_device_are_at_most_two_a_second_and_one(steps):
    merged, at, times = ReceiptBuffer(), 0.0, []
    for number, (wait_ms, is_read) in enumerate(steps, 1):
        at += wait_ms / 1000
        merged.note(KEY, number, number if is_read else 0)
        times += [at] * len(merged.due(at))
    for first in times:
        assert len([sent for sent in times if first <= sent < first + EVERY_S]) <= 3


def test_what_could_not_be_told_does_not_overwrite_what_came_since():
    merged = ReceiptBuffer()
    merged.note(KEY, 2, 1)
    failed = merged.due(0.0)
    merged.note(KEY, 7, 0)
    merged.put_back(failed)
    assert merged.due(0.0, all_of_them=True) == {KEY: (7, 1)}


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50))))
def test_buffer_receipts_never_fall_and_read_implies_delivered(receipts):
    merged, told = ReceiptBuffer(), (0, 0)
    for number, (delivered, read) in enumerate(receipts):
        merged.note(KEY, delivered, read)
        for seqs in merged.due(number * EVERY_S).values():
            assert seqs[0] >= seqs[1]
            told = max(told[0], seqs[0]), max(told[1], seqs[1])
    assert told[1] == max((read for _, read in receipts), default=0)
    assert told[0] == max((max(pair) for pair in receipts), default=0)


async def test_receipts_that_were_under_way_when_the_node_ends_are_told_by_the_flush():
    class Stuck(MemoryLog):
        stuck = True

        async def append(self, records):
            if self.stuck:
                await asyncio.Event().wait()
            return await super().append(records)

    log = Stuck()
    receipts = Receipts(log)
    receipts.note(*KEY, delivered=3)
    running = asyncio.create_task(receipts.run())
    while receipts._buffer.waiting:  # noqa: ASYNC110
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait({running})
    log.stuck = False
    await receipts.flush()
    assert [event.delivered_seq for event in log.events("receipt.recorded")] == [3]


def hints(text: str, members: int) -> list[tuple[str, bytes]]:
    return [(f"user:{n}:messages", text.encode()) for n in range(members)]


def test_small_conversations_get_every_hint():
    budget = HintBudget()
    sent = [budget.spend("c", hints(str(n), 2), n * 0.02) for n in range(500)]
    assert all(len(s) == 2 for s in sent)


def test_large_conversations_get_the_first_and_the_latest_hint():
    budget = HintBudget()
    assert len(budget.spend("c", hints("0", 500), 0.0)) == 500
    assert budget.spend("c", hints("1", 500), 0.1) == []
    assert budget.spend("c", hints("2", 500), 0.2) == []
    assert budget.due(2.9) == []
    assert budget.due(3.1) == hints("2", 500)
    assert not budget.holds


def test_a_channel_is_told_from_its_name_even_with_colons_in_a_user_id():
    assert channels.parsed(channels.user_messages("irc:bob")) == ("user", "irc:bob", "messages")
    assert channels.parsed(channels.messages(make.ROOM)) == ("conversation", make.ROOM, "messages")


def test_an_envelope_is_opened_to_what_was_put_in():
    envelope = Envelope(Kind.MESSAGE, 7, "irc:bob", b'{"a": 1, "b": " "}')
    assert opened(envelope.packed()) == envelope


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"message",
        b"message 7 bob",
        b"message 7 bob ",
        b"message x bob {}",
        b"message 7 bob \xff\xfe",
        b"\xff 7 b {}",
    ],
)
def test_bytes_that_hold_no_envelope_are_refused(data):
    with pytest.raises(ValueError):
        opened(data)


def test_content_goes_to_its_room_by_seq():
    [(channel, data)] = publications_of(change_of(make.sent(seq=7))).certain
    envelope = opened(data)
    assert (channel, envelope.kind, envelope.seq) == (channels.messages(make.ROOM), "message", 7)
    assert orjson.loads(envelope.frame)["message"]["content"] == "hi"


def test_content_is_a_hint_for_members_who_have_not_joined():
    hint = publications_of(change_of(make.sent(seq=7))).hint
    envelope = opened(hint.envelope)
    assert (hint.conversation_id, envelope.about, envelope.seq) == (make.ROOM, make.ROOM, 7)


def test_a_watermark_goes_to_senders_and_to_the_members_other_devices():
    event = MessageStatus(
        conversation_id=make.ROOM,
        user_id="bob",
        status="read",
        seq=3,
        delivered_seq=3,
        read_seq=3,
        at=make.AT,
        notify=("alice",),
    )
    publications = publications_of(event)
    assert {channel for channel, _ in publications.certain} == {"user:alice:messages", "user:bob:messages"}
    assert {opened(data).kind for _, data in publications.certain} == {"message_status"}
    assert publications.hint is None


def test_a_new_conversation_is_told_to_its_members():
    event = ConversationChanged(
        conversation_id=make.ROOM, seq=0, change="created", user_id="a", by="a", at=make.AT, members=("a", "b")
    )
    publications = publications_of(event)
    assert [hint.publication[0] for hint in publications.lists] == ["user:a:messages", "user:b:messages"]
    assert publications.certain == ()
    assert change_of(event) is None


def test_who_was_added_or_removed_is_told_wherever_he_is():
    publications = publications_of(change_of(make.member_added(4, "carol")))
    [(channel, room)], [hint] = publications.certain, publications.lists
    assert (channel, hint.publication[0]) == (channels.messages(make.ROOM), "user:carol:messages")
    assert [opened(data).about for data in (hint.envelope, room)] == [make.ROOM, "carol"]


def test_an_invited_user_is_told_of_the_list_and_nothing_of_the_conversation():
    for change in ("member_invited", "invitation_ended"):
        publications = publications_of(change_of(make.member_added(4, "carol", change=change)))
        [(channel, room)], [hint] = publications.certain, publications.lists
        assert channel == channels.messages(make.ROOM)
        assert orjson.loads(opened(room).frame)["change"] == change
        told = opened(hint.envelope)
        assert (hint.publication[0], told.about) == ("user:carol:messages", "invitations")
        assert orjson.loads(told.frame) == {"type": "list_changed", "list": "invitations"}
    created = make.member_added(0, "a", change="created", title="x", members=("a",), invited=("carol",))
    assert [(hint.user_id, hint.list) for hint in publications_of(created).lists] == [
        ("a", "conversations"),
        ("carol", "invitations"),
    ]


def test_a_change_of_a_later_release_passes_to_the_room_in_its_place_and_to_the_lists_of_nobody():
    publications = publications_of(change_of(make.member_added(4, "carol", change="knighted")))
    [(channel, data)] = publications.certain
    assert (channel, publications.lists) == (channels.messages(make.ROOM), ())
    frame = orjson.loads(opened(data).frame)
    assert opened(data).seq == 4
    assert (frame["type"], frame["seq"], frame["change"]) == ("conversation_changed", 4, "knighted")


def test_of_many_hints_about_a_list_one_stands_for_all_that_come_too_fast():
    budget, now = ListBudget(), 100.0

    def created(number: int, user: str = "victim") -> ListHint:
        return ListHint(user, "conversations", b"created 0 %d {}" % number)

    sent = [publication for number in range(126) for publication in budget.spend(created(number), now + number / 6.3)]
    assert sent[:5] == [created(number).publication for number in range(5)]
    assert len(sent) <= 5 + 126 / 6.3 / 5 + 1
    assert budget.spend(created(0, "another"), now) == [created(0, "another").publication]
    later = budget.due(now + 60)
    assert [opened(data).frame for _, data in later] == [b'{"type":"list_changed","list":"conversations"}']
    assert not budget.holds


def test_a_single_hint_that_has_to_wait_goes_as_it_is():
    budget = ListBudget()
    hints = [ListHint("bob", "conversations", b"created 0 %d {}" % number) for number in range(6)]
    sent = [publication for hint in hints for publication in budget.spend(hint, 1.0)]
    assert sent == [hint.publication for hint in hints[:5]]
    assert budget.due(2.0) == []
    assert budget.due(7.0) == [hints[5].publication]
