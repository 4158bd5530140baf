"""Places of entries that come back from the log: dense, none lost, each under its old seq as long as that is free."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.recovery import MAX_HOLE, Entered, Plan, Restored, Returned, at, count, distinct, plan
from schemas.events import MessageCreated
from tests import make


def messages(*seqs: int) -> list[Entered]:
    return [make.created(seq=seq) for seq in seqs]


def seqs(planned: Plan) -> list[tuple[int, int | None]]:
    """The seq of each entry, and the one that its event had."""
    return [(entry.seq, None if entry.event is None else entry.event.seq) for entry in planned.entries]


def test_entries_behind_the_head_keep_their_seqs():
    planned = plan(3, messages(5, 4, 6))
    assert seqs(planned) == [(4, 4), (5, 5), (6, 6)]
    assert (planned.moved, planned.lost, planned.shared) == (0, 0, 6)


def test_an_entry_that_no_log_has_is_replaced_by_one_that_says_so():
    planned = plan(3, messages(4, 7))
    assert seqs(planned) == [(4, 4), (5, None), (6, None), (7, 7)]
    assert (planned.moved, planned.lost, planned.shared) == (0, 2, 4)


def test_the_place_of_a_message_that_was_sent_again_is_not_lost():
    planned = plan(3, messages(4, 7), {5})
    assert seqs(planned) == [(4, 4), (5, None), (6, None), (7, 7)]
    assert (planned.lost, planned.shared) == (1, 4)


def test_an_entry_whose_seq_was_given_out_again_comes_behind_all_others():
    events = messages(4, 5, 6)
    planned = plan(5, events)
    assert [entry.seq for entry in planned.entries] == [6, 7, 8]
    assert [entry.event.message.message_id for entry in planned.entries] == [
        event.message.message_id for event in (events[2], events[0], events[1])
    ]
    assert [entry.event.seq for entry in planned.entries] == [6, 7, 8]
    assert (planned.moved, planned.lost) == (2, 0)


def test_two_events_of_one_seq_both_come_back():
    planned = plan(0, messages(1, 1, 2))
    assert (len(planned.entries), planned.moved) == (3, 1)


def test_a_seq_far_beyond_all_others_makes_no_holes():
    planned = plan(0, messages(1, MAX_HOLE + 2))
    assert seqs(planned) == [(1, 1), (2, 2)]
    assert (planned.moved, planned.lost, planned.shared) == (1, 0, 1)


def test_what_was_hidden_from_a_member_who_came_later_stays_hidden_at_another_place():
    assert at(make.member_added(8, hidden_up_to=7), 12).hidden_up_to == 11
    assert at(make.member_added(8), 12).hidden_up_to == 0


def test_a_fact_that_was_published_again_comes_back_once_where_the_log_has_it_last():
    first = make.created(seq=4)
    first = replace(first, client_message_id="k", body_hash="00")
    later = MessageCreated(message=replace(first.message, seq=9))
    joined = make.member_added(5)
    assert distinct([first, joined, later, replace(joined, seq=8)]) == [
        replace(later, client_message_id="k", body_hash="00"),
        replace(joined, seq=8),
    ]


def test_nothing_that_is_missing_needs_nothing():
    assert plan(9, []) == Plan((), 0, 0, 9)


def test_numbers_add_up():
    counted = count([Returned(1, make.created()), Returned(2, make.member_added(2)), Returned(3, None)])
    assert counted + Restored(messages=1, lost=1) == Restored(messages=2, members=1, lost=1)


@given(head=st.integers(0, 20), wanted=st.lists(st.integers(1, 40), max_size=25))
def test_the_plan_is_dense_and_has_every_event_once(head: int, wanted: list[int]):
    events = messages(*wanted)
    planned = plan(head, events)
    assert [entry.seq for entry in planned.entries] == list(range(head + 1, head + 1 + len(planned.entries)))
    placed = [entry for entry in planned.entries if isinstance(entry.event, MessageCreated)]
    assert {entry.event.message.message_id for entry in placed} == {event.message.message_id for event in events}
    assert len(placed) == len(events)
    assert all(entry.event.seq == entry.seq for entry in placed)
    had = {event.message.message_id: event.seq for event in events}
    kept = {entry.seq for entry in placed if had[entry.event.message.message_id] == entry.seq}
    assert kept >= {seq for seq in wanted if seq > head and seq - head <= MAX_HOLE}
    assert planned.moved >= sum(seq <= head for seq in wanted)
    assert head <= planned.shared <= head + len(planned.entries)
