"""The client library's pure parts: cursor, duplicates, gaps, receipts, backoff, cursors that are stored."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from millrace_client import Cursor, CursorStore, MemoryCursors, SqliteCursors
from millrace_client.backoff import Backoff
from millrace_client.frames import (
    Ack,
    Connected,
    ErrorFrame,
    JoinConversation,
    NewMessage,
    Pong,
    Read,
    Reconnect,
    SetTyping,
    StatusUpdated,
    UnknownFrame,
    decode_frame,
    place_of,
)
from millrace_client.reconnect import ReconnectTimer
from millrace_client.refresh import wait_s
from millrace_client.sync import Arrival, ConversationSync, JoinAnswer

from schemas import frames
from tests import make


def joined(cursor: int) -> ConversationSync:
    """A conversation that is in step at this seq."""
    sync = ConversationSync(make.ROOM, cursor)
    sync.join(1)
    assert sync.joined(cursor, 1) is JoinAnswer.IN_STEP
    return sync


def test_a_first_join_without_a_cursor_starts_where_the_conversation_stands():
    sync = ConversationSync(make.ROOM)
    assert sync.join(1) == JoinConversation(id=make.ROOM, ref=1)
    assert sync.arrive(7) is Arrival.HINT
    assert sync.joined(7, 1) is JoinAnswer.IN_STEP
    assert sync.arrive(8) is Arrival.NEXT
    assert sync.cursor == 8


def test_what_is_not_above_the_cursor_is_dropped_and_counted():
    sync = joined(5)
    assert [sync.arrive(seq) for seq in (5, 3, 6, 6)] == [Arrival.REPEAT, Arrival.REPEAT, Arrival.NEXT, Arrival.REPEAT]
    assert (sync.cursor, sync.repeats, sync.gaps) == (6, 3, 0)


def test_a_gap_is_filled_by_a_join_from_the_cursor():
    sync = joined(5)
    assert sync.arrive(8) is Arrival.GAP
    assert sync.join(2) == JoinConversation(id=make.ROOM, after=5, ref=2)
    assert sync.arrive(9) is Arrival.HINT  # the replay brings it
    assert [sync.arrive(seq) for seq in (6, 7, 8, 9)] == [Arrival.NEXT] * 4
    assert sync.joined(9, 2) is JoinAnswer.IN_STEP
    assert sync.gaps == 1


def test_what_comes_after_the_membership_has_ended_is_a_hint_until_the_next_join():
    sync = joined(5)
    sync.left()
    assert [sync.arrive(seq) for seq in (6, 8)] == [Arrival.HINT] * 2
    assert (sync.cursor, sync.gaps) == (5, 0)
    sync.join(2)
    assert [sync.arrive(seq) for seq in (6, 7)] == [Arrival.NEXT] * 2
    assert sync.joined(7, 2) is JoinAnswer.IN_STEP


def test_a_replay_that_lacks_its_end_is_incomplete():
    sync = ConversationSync(make.ROOM, 0)
    sync.join(1)
    sync.arrive(1)
    assert sync.joined(3, 1) is JoinAnswer.INCOMPLETE
    assert (sync.in_step, sync.gaps) == (False, 1)


def test_the_answer_to_an_earlier_join_says_nothing():
    sync = ConversationSync(make.ROOM, 0)
    sync.join(1)
    sync.join(2)
    assert sync.joined(0, 1) is JoinAnswer.STALE
    assert not sync.is_join(1)
    assert not sync.is_join(None)
    assert sync.is_join(2)


@given(
    head=st.integers(1, 40),
    order=st.randoms(use_true_random=False),
    losses=st.sets(st.integers(1, 40)),
    cuts=st.sets(st.integers(0, 120)),
)
def test_whatever_is_lost_doubled_or_reordered_each_seq_is_shown_once_in_order(head, order, losses, cuts):
    sync, shown, ref = ConversationSync(make.ROOM, 0), [], 1
    sync.join(ref)
    arrivals = [n for n in range(1, head + 1) for _ in range(order.choice((1, 2))) if n not in losses]
    order.shuffle(arrivals)
    for step, seq in enumerate(arrivals):
        arrival = sync.arrive(seq)
        if arrival is Arrival.NEXT:
            shown.append(seq)
        if arrival is Arrival.GAP or step in cuts:
            ref += 1
            sync.join(ref)
    ref += 1
    after = sync.join(ref).after
    assert after is not None
    shown += [seq for seq in range(after + 1, head + 1) if sync.arrive(seq) is Arrival.NEXT]
    assert sync.joined(head, ref) is JoinAnswer.IN_STEP
    assert shown == list(range(1, head + 1))


def test_receipts_are_due_once_on_each_connection_and_never_before_the_join():
    sync = ConversationSync(make.ROOM, 5)
    sync.join(1)
    assert sync.receipts(read=True) == []
    sync.joined(5, 1)
    assert sync.receipts(read=True) == [Read(conversation_id=make.ROOM, seq=5)]
    sync.arrive(6)
    assert sync.receipts() == [Ack(conversation_id=make.ROOM, seq=6)]
    assert sync.receipts() == []
    sync.connected()
    sync.join(2)
    sync.joined(6, 2)
    assert [type(frame) for frame in sync.receipts()] == [Read, Ack]


@pytest.mark.parametrize(
    ("stored", "repeated"),
    [((0, 0), ["read 5", "ack 6"]), ((5, 5), ["ack 6"]), ((6, 4), ["read 5"]), ((6, 5), []), ((9, 9), [])],
)
def test_a_join_repeats_the_receipts_that_the_server_has_not_stored_and_no_others(stored, repeated):
    sync = joined(5)
    sync.receipts(read=True)
    sync.arrive(6)
    sync.receipts()
    sync.arrive(7)  # arrived, and not acknowledged: that is for the application to say
    sync.connected()
    sync.join(2)
    assert sync.joined(7, 2, *stored) is JoinAnswer.IN_STEP
    found = sync.repeated()
    assert [f"{type(frame).__name__.lower()} {frame.seq}" for frame in found] == repeated
    assert sync.repeated() == []


def test_a_join_on_the_same_connection_repeats_nothing_that_is_on_its_way():
    sync = joined(5)
    sync.receipts(read=True)
    sync.join(2)
    sync.joined(5, 2, 0, 0)
    assert sync.repeated() == []


# ---- waiting


def test_the_backoff_doubles_up_to_its_bound_and_begins_again():
    backoff = Backoff(first_s=1, max_s=5, least=1, most=1)
    assert [backoff.next() for _ in range(5)] == [1, 2, 4, 5, 5]
    backoff.reset()
    assert backoff.next() == 1


@given(seed=st.integers(), at_least=st.floats(0, 60))
def test_the_jitter_never_undercuts_what_the_server_asks_for(seed: int, at_least: float):
    backoff = Backoff(chance=random.Random(seed))
    waits = [backoff.next(at_least) for _ in range(8)]
    assert all(at_least <= wait <= at_least + backoff.max_s for wait in waits)


def test_a_reconnect_frame_says_when_to_come_back_without_jitter():
    timer = ReconnectTimer(Backoff(first_s=1, max_s=1, least=1, most=1))
    timer.received(Reconnect(after_ms=4000), 10.0)
    assert timer.wait_s(13.5) == 0.5
    timer.received(Reconnect(after_ms=4000), 10.0)
    assert timer.wait_s(14.5) == 0
    assert timer.wait_s(14.5) == 1


def test_a_connection_that_is_lost_before_the_time_it_was_given_is_made_again_at_once():
    timer = ReconnectTimer(Backoff(first_s=1, max_s=1, least=1, most=1))
    timer.received(Reconnect(after_ms=60_000), 10.0)
    assert timer.wait_s(12.0) == 1


def test_a_refusal_with_a_time_is_waited_for():
    timer = ReconnectTimer(Backoff(first_s=1, max_s=1, least=1, most=1))
    timer.received(ErrorFrame(code="rate_limited", retry_after_ms=3000), 0.0)
    assert timer.wait_s(0.0) == 4
    assert timer.wait_s(0.0, retry_after_s=7) == 8


def test_only_good_frames_end_the_backoff():
    greeting = Connected(connection_id="c", user_id="u", heartbeat_ms=1, max_frame=1, expires_at="")
    timer = ReconnectTimer(Backoff(first_s=1, max_s=8, least=1, most=1))
    waits = [timer.wait_s(0.0), timer.wait_s(0.0)]
    for frame in (greeting, ErrorFrame(code="unavailable")):
        timer.received(frame, 0.0)
        waits.append(timer.wait_s(0.0))
    timer.received(Pong(), 0.0)
    assert [*waits, timer.wait_s(0.0)] == [1, 2, 4, 8, 1]


@pytest.mark.parametrize(("left", "wait"), [(3600, 3540), (100, 80), (0, 0), (-5, 0)])
def test_a_token_is_renewed_before_its_end(left: int, wait: int):
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert wait_s((now + timedelta(seconds=left)).isoformat().replace("+00:00", "Z"), now) == pytest.approx(wait)


# ---- cursors


def test_a_cursor_is_given_with_the_epoch_of_its_join():
    sync = ConversationSync(make.ROOM, 5)
    assert sync.join(1) == JoinConversation(id=make.ROOM, after=5, ref=1)
    sync.joined(5, 1, epoch="1-x")
    assert sync.join(2) == JoinConversation(id=make.ROOM, after=5, epoch="1-x", ref=2)


def test_a_reset_drops_what_is_above_it_with_the_receipts_of_it():
    sync = joined(5)
    assert [receipt.seq for receipt in sync.receipts(read=True)] == [5]
    sync.reset(3, "2-y")
    assert (sync.cursor, sync.epoch, sync.in_step, sync.acknowledged, sync.read) == (3, "2-y", True, 3, 3)
    assert [sync.arrive(seq) for seq in (4, 5)] == [Arrival.NEXT, Arrival.NEXT]
    assert [receipt.seq for receipt in sync.receipts(read=True)] == [5]


def test_a_reset_above_the_cursor_drops_nothing():
    sync = joined(5)
    sync.reset(7, "2-y")
    assert (sync.cursor, sync.epoch, sync.arrive(6)) == (5, "2-y", Arrival.NEXT)


@pytest.fixture(params=["memory", "sqlite"])
def cursors(request, tmp_path: Path) -> Iterator[CursorStore]:
    if request.param == "memory":
        yield MemoryCursors()
        return
    store = SqliteCursors(tmp_path / "cursors.db", "bob/phone")
    yield store
    store.close()


def test_a_stored_cursor_only_moves_forward(cursors: CursorStore):
    assert cursors.load("a") is None
    for seq in (3, 5, 4):
        cursors.save("a", Cursor(seq))
    cursors.save("b", Cursor(0))
    assert (cursors.load("a"), cursors.load("b"), cursors.load("c")) == (Cursor(5), Cursor(0), None)


def test_a_stored_cursor_has_its_epoch_and_goes_back_only_by_a_reset(cursors: CursorStore):
    cursors.save("a", Cursor(5, "1-x"))
    cursors.save("a", Cursor(5, "2-y"))
    assert cursors.load("a") == Cursor(5, "2-y")
    cursors.save("a", Cursor(4, "2-y"))
    assert cursors.load("a") == Cursor(5, "2-y")
    cursors.reset("a", Cursor(3, "2-y"))
    assert cursors.load("a") == Cursor(3, "2-y")


def test_cursors_in_a_file_outlive_their_process_and_accounts_are_apart(tmp_path: Path):
    first = SqliteCursors(tmp_path / "cursors.db", "bob")
    first.save("a", Cursor(5))
    first.close()
    bob, carol = (SqliteCursors(tmp_path / "cursors.db", account) for account in ("bob", "carol"))
    assert (bob.load("a"), carol.load("a")) == (Cursor(5), None)
    bob.close()
    carol.close()


# ---- frames


def test_frames_are_decoded_as_the_server_encodes_them():
    message = make.message(seq=3, content="hello")
    frame = decode_frame(frames.new_message(message))
    assert isinstance(frame, NewMessage)
    assert (frame.seq, frame.message.content, frame.message.sender_id) == (3, "hello", message.sender_id)


def test_what_a_newer_server_adds_is_ignored():
    assert decode_frame(b'{"type":"pong","later":1}') == Pong()
    assert decode_frame(b'{"type":"sparkle","x":1}') == UnknownFrame("sparkle", {"type": "sparkle", "x": 1})
    status = {"conversationId": "c", "seq": 1, "userId": "u", "status": "read", "deliveredSeq": 1, "readSeq": 1}
    frame = decode_frame(msgspec.json.encode({"type": "message_status", **status, "at": "t"}))
    assert isinstance(frame, StatusUpdated)
    for raw in (b"[]", b'{"x":1}', b"no json"):
        with pytest.raises(ValueError, match=r"."):
            decode_frame(raw)


def test_frames_of_the_client_leave_out_what_is_not_given():
    assert msgspec.json.decode(msgspec.json.encode(SetTyping(conversation_id="c", is_typing=False))) == {
        "type": "typing",
        "conversationId": "c",
        "isTyping": False,
    }
    assert msgspec.json.encode(JoinConversation(id="c")) == b'{"type":"join_conversation","id":"c"}'


def test_the_place_of_a_content_frame_is_found_without_decoding_it():
    raw = frames.new_message(make.message(seq=42))
    assert place_of(raw) == (make.ROOM, 42)
    other_order = msgspec.json.encode({"seq": 42, **msgspec.json.decode(raw)})
    assert place_of(other_order) is None
    for frame in (b'{"type":"conversation_changed","conversationId":"c","seq":0}', b'{"type":"pong"}', b"[]"):
        assert place_of(frame) is None
