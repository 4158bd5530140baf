"""What users read over HTTP: a run that was kept is found kept, and every way to break it is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import httpx2
import pytest

from tests import make
from verify.checker import READ
from verify.final_state import FinalState, LogEntry, StoredMessage, Watermark, digest
from verify.history import Attempt, History, InjectedFault, Room, Sending
from verify.http_answers import problem_of
from verify.observations import (
    Call,
    ConversationList,
    HistoryPage,
    ListedConversation,
    ListedNotification,
    MinuteCounts,
    NotificationWalk,
    PostedReceipt,
    Search,
    ShownMessage,
    StrangersPage,
    TicketUse,
    WholeSearch,
)
from verify.rules.calls import BUSY_LEAST
from verify.rules.explanations import AFTER_S
from verify.rules.lists import SEARCHABLE_S
from verify.senders import attempt_of
from verify.slowdown import BEARABLE, Slowdown
from verify.workload import RoomWorkload, Send, SendMode

COUNT = 10
JOINED = 4  # the seq of a change that is no message
MESSAGES = [seq for seq in range(1, COUNT + 1) if seq != JOINED]
LATE = 100.0  # everything was sent long before


def call(what: str = "history", at: float = LATE, status: int | None = 200, **more: object) -> Call:
    return replace(Call(what, "bob", at, at + 0.1, status, expected=status == 200), **more)


def shown(seq: int) -> ShownMessage:
    return ShownMessage(f"m{seq:02}", make.ROOM, seq, "alice", digest(f"n{seq}"))


def page(at: float, seqs: list[int], **more: object) -> HistoryPage:
    bounds = {"after": None, "before": None, "limit": 50, "head": COUNT, "has_more": False, **more}
    return HistoryPage(call(at=at), make.ROOM, messages=tuple(shown(seq) for seq in seqs), **bounds)


class KeptReads:
    """Reads by bob of a conversation in which alice has sent everything by ``COUNT`` seconds."""

    def __init__(self) -> None:
        workload = RoomWorkload(owner="alice", members=("alice", "bob", "carol"), leaver="carol", stranger="mallory")
        self.room = Room(workload, make.ROOM)
        for seq in MESSAGES:
            send = Send(at=0, sender="alice", key=f"k{seq}", content=f"n{seq}", mode=SendMode.PLAIN)
            self.room.sendings.append(Sending(send, [Attempt(seq, seq + 0.5, 201, f"m{seq:02}", seq)]))
        rows = [
            StoredMessage(f"m{seq:02}", make.ROOM, seq, "alice", f"k{seq}", digest(f"n{seq}"), 1) for seq in MESSAGES
        ]
        entries = [LogEntry(seq, "member_added" if seq == JOINED else "message", None) for seq in range(1, COUNT + 1)]
        self.state = FinalState(make.ROOM, COUNT, rows, entries, [Watermark("bob", 8, 7)])
        self.history = History("v", 1, rooms=[self.room])
        self.room.receipts.append(PostedReceipt(call("receipt", 20, 204, expected=True), 7))
        reads = self.history.reads
        reads.pages += [
            page(5.2, [1, 2, 3], head=4),
            page(LATE, MESSAGES),
            page(LATE, [1, 2], after=0, limit=2, has_more=True),
            page(LATE, [9, 10], limit=2, has_more=True),
            page(LATE, [7, 8], before=9, limit=2, has_more=True),
        ]
        reads.searches += [
            Search(call("search", 3.2), "m02", 2.5, ()),
            Search(call("search", LATE), "m02", 2.5, (shown(2),)),
        ]
        newest = tuple(shown(seq) for seq in reversed(MESSAGES))
        reads.whole_searches.append(WholeSearch(call("search"), make.ROOM, newest, is_last=True))
        line = ListedConversation(make.ROOM, COUNT, 3, 7, "2026-01-01T00:00:02Z", shown(COUNT))
        reads.lists += [
            ConversationList(
                call("conversations", 6.2), (replace(line, head=5, unread=4, read_seq=0, last=shown(5)),), None
            ),
            ConversationList(call("conversations"), (line,), (3, 1), is_last=True),
        ]
        reads.counts += [
            MinuteCounts(call("analytics", 6), make.ROOM, 2),
            MinuteCounts(call("analytics"), make.ROOM, len(MESSAGES), is_last=True),
        ]
        old, new = (ListedNotification(f"id{n}", "in_app", False, shown(n)) for n in (2, 3))
        reads.walks += [
            NotificationWalk("bob", 30, 31, False, (old,)),
            NotificationWalk("bob", 40, 41, False, (new, old)),
            NotificationWalk("bob", 50, 51, True, (new,)),
            NotificationWalk("carol", 30, 31, False, (new, old)),
            NotificationWalk("carol", 40, 41, False, ()),  # removed for a while
            NotificationWalk("carol", 50, 51, False, (new, old)),
        ]
        reads.tickets.append(TicketUse(call("ticket", 30, 201), 31, "bob", ""))
        self.history.calls += [call(), call("history of others", 30, 404, code="not_found", expected=True)]

    def verdict(self) -> list[tuple[str, str]]:
        found = [violation for rule in READ for violation in rule(self.history, [self.state])]
        return sorted({(violation.invariant, violation.sort) for violation in found})


def break_with(role: str, began: float, healed: float) -> InjectedFault:
    return InjectedFault(f"hole-{role}", began, healed, single=True, targets=(role,))


def test_reads_that_were_kept():
    assert KeptReads().verdict() == []


def replace_in(kept: list, index: int, **changes: object) -> None:
    kept[index] = replace(kept[index], **changes)


def leave_one_out(h: KeptReads) -> None:
    h.history.reads.pages.append(page(LATE, [seq for seq in MESSAGES if seq != 7]))


def leave_out_the_newest(h: KeptReads) -> None:
    h.history.reads.pages.append(page(LATE, [8, 9], limit=2, has_more=True))


def leave_out_what_another_has_read(h: KeptReads) -> None:
    h.room.sendings[-1].attempts = [Attempt(COUNT, COUNT + 0.5, None)]
    h.history.reads.pages.append(page(LATE + 1, MESSAGES[:-1]))


def end_a_page_too_early(h: KeptReads) -> None:
    h.history.reads.pages.append(page(LATE, [1, 2], after=0))


def page_of_an_old_head(h: KeptReads) -> None:
    replace_in(h.history.reads.pages, 1, head=COUNT - 1)


def page_beyond_the_head(h: KeptReads) -> None:
    replace_in(h.history.reads.pages, 1, head=COUNT + 1)


def turn_a_page_round(h: KeptReads) -> None:
    h.history.reads.pages.append(page(LATE, MESSAGES[::-1]))


def exceed_the_limit(h: KeptReads) -> None:
    replace_in(h.history.reads.pages, 1, limit=3)


def exceed_the_bounds(h: KeptReads) -> None:
    h.history.reads.pages.append(page(LATE, MESSAGES, before=COUNT))


def promise_more_than_nothing(h: KeptReads) -> None:
    h.history.reads.pages.append(page(LATE, [], after=COUNT, has_more=True))


def show_other_content(h: KeptReads) -> None:
    replace_in(h.history.reads.pages, 1, messages=(replace(shown(1), digest=digest("x")), *map(shown, MESSAGES[1:])))


def show_what_is_not_stored(h: KeptReads) -> None:
    replace_in(
        h.history.reads.walks,
        0,
        entries=(ListedNotification("id2", "in_app", False, replace(shown(2), message_id="gone")),),
    )


def show_what_is_of_others(h: KeptReads) -> None:
    h.history.reads.searches.append(Search(call("search", user="eve"), "m02", 2.5, (shown(2),)))


def serve_a_stranger(h: KeptReads) -> None:
    h.history.reads.strangers.append(StrangersPage(call(user="mallory"), make.ROOM, 3))


def find_another(h: KeptReads) -> None:
    replace_in(h.history.reads.searches, 1, hits=(shown(2), shown(3)))


def find_late(h: KeptReads) -> None:
    replace_in(h.history.reads.searches, 0, call=call("search", 2.5 + SEARCHABLE_S + 1))


def never_find(h: KeptReads) -> None:
    h.history.faults.append(break_with("search", 1, LATE))
    replace_in(h.history.reads.searches, 1, hits=())


def index_without_one(h: KeptReads) -> None:
    hits = h.history.reads.whole_searches[0].hits
    replace_in(h.history.reads.whole_searches, 0, hits=hits[1:])


def find_one_twice(h: KeptReads) -> None:
    hits = h.history.reads.whole_searches[0].hits
    replace_in(h.history.reads.whole_searches, 0, hits=(hits[0], *hits))


def change_the_line(h: KeptReads, **changes: object) -> None:
    listed = h.history.reads.lists[1]
    replace_in(h.history.reads.lists, 1, lines=(replace(listed.lines[0], **changes),))


def count_one_unread_more(h: KeptReads) -> None:
    change_the_line(h, unread=4)


def list_an_old_head(h: KeptReads) -> None:
    change_the_line(h, head=COUNT - 1, unread=2, last=shown(COUNT - 1))


def list_an_old_message(h: KeptReads) -> None:
    change_the_line(h, last=shown(COUNT - 1))


def forget_what_was_read(h: KeptReads) -> None:
    listed = h.history.reads.lists[1]
    line = replace(listed.lines[0], read_seq=0, unread=len(MESSAGES))
    h.history.reads.lists.append(replace(listed, call=call(at=LATE + 1), lines=(line,), total=(9, 1)))


def claim_that_more_was_read(h: KeptReads) -> None:
    change_the_line(h, read_seq=9, unread=1)
    replace_in(h.history.reads.lists, 1, total=(1, 1))


def forget_what_was_written(h: KeptReads) -> None:
    rows = list(h.state.rows)
    rows[-1] = replace(rows[-1], sender_id="bob")
    h.state.rows = rows


def list_nothing(h: KeptReads) -> None:
    replace_in(h.history.reads.lists, 1, lines=(), total=(0, 0))


def list_the_oldest_first(h: KeptReads) -> None:
    line = h.history.reads.lists[1].lines[0]
    other = replace(line, conversation_id="other", last_at="2026-01-01T00:00:03Z", unread=0, last=None)
    replace_in(h.history.reads.lists, 1, lines=(line, other))


def add_up_wrongly(h: KeptReads) -> None:
    replace_in(h.history.reads.lists, 1, total=(4, 1))


def count_one_less(h: KeptReads) -> None:
    replace_in(h.history.reads.counts, 1, messages=len(MESSAGES) - 1)


def count_one_more_meanwhile(h: KeptReads) -> None:
    replace_in(h.history.reads.counts, 0, messages=len(MESSAGES) + 1)


def lose_a_receipt(h: KeptReads) -> None:
    replace_in(h.room.receipts, 0, read_seq=8)


def notify_twice(h: KeptReads) -> None:
    entry = h.history.reads.walks[0].entries[0]
    replace_in(h.history.reads.walks, 1, entries=(replace(entry, notification_id="id3"), entry))


def repeat_a_notification(h: KeptReads) -> None:
    entries = h.history.reads.walks[1].entries
    replace_in(h.history.reads.walks, 1, entries=(*entries, entries[-1]))


def forget_a_notification(h: KeptReads) -> None:
    replace_in(h.history.reads.walks, 1, entries=h.history.reads.walks[1].entries[:1])


def notify_behind_the_newest(h: KeptReads) -> None:
    first = h.history.reads.walks[1].entries[0]
    late = ListedNotification("id1", "in_app", False, shown(1))
    replace_in(h.history.reads.walks, 1, entries=(first, *h.history.reads.walks[0].entries, late))


def show_a_seen_one(h: KeptReads) -> None:
    entry = h.history.reads.walks[2].entries[0]
    replace_in(h.history.reads.walks, 2, entries=(replace(entry, is_seen=True),))


def connect_another(h: KeptReads) -> None:
    replace_in(h.history.reads.tickets, 0, first="alice")


def connect_twice(h: KeptReads) -> None:
    replace_in(h.history.reads.tickets, 0, second="bob")


def connect_nobody(h: KeptReads) -> None:
    replace_in(h.history.reads.tickets, 0, first="")


def answer_a_bug(h: KeptReads) -> None:
    h.history.calls.append(call(status=500, code="internal"))


def answer_a_raw_error(h: KeptReads) -> None:
    h.history.faults.append(break_with("ingest", LATE, LATE))
    h.history.calls.append(call(status=500, defect="the body of a 500 is text/plain"))


def answer_a_post_with_half_a_body(h: KeptReads) -> None:
    h.room.sendings[0].attempts.insert(0, Attempt(0.5, 0.6, None, defect="the body of a 201 is no MessageAccepted"))


def answer_a_post_with_a_bug(h: KeptReads) -> None:
    h.room.sendings[0].attempts.insert(0, Attempt(0.5, 0.6, 500, code="internal"))


def refuse_for_no_reason(h: KeptReads) -> None:
    h.history.calls += [call(status=503, code="unavailable")] * (BUSY_LEAST + 1)


def never_answer(h: KeptReads) -> None:
    h.history.calls += [call(status=None)] * (BUSY_LEAST + 1)


def have_no_room(h: KeptReads) -> None:
    h.history.calls.append(call(status=507, code="insufficient_storage"))


def refuse_a_member(h: KeptReads) -> None:
    h.history.calls.append(call(status=404, code="not_found"))


BREAKS: list[tuple[Callable[[KeptReads], None], str, str]] = [
    (leave_one_out, "I22", "lost"),
    (leave_out_the_newest, "I22", "lost"),
    (leave_out_what_another_has_read, "I22", "lost"),
    (end_a_page_too_early, "I22", "lost"),
    (page_of_an_old_head, "I22", "wrong"),
    (page_beyond_the_head, "I22", "wrong"),
    (turn_a_page_round, "I22", "reordered"),
    (exceed_the_limit, "I22", "wrong"),
    (exceed_the_bounds, "I22", "wrong"),
    (promise_more_than_nothing, "I22", "wrong"),
    (show_other_content, "I22", "wrong"),
    (show_what_is_not_stored, "I22", "wrong"),
    (show_what_is_of_others, "I11", "wrong"),
    (serve_a_stranger, "I11", "wrong"),
    (find_another, "I22", "wrong"),
    (find_late, "I22", "slow"),
    (never_find, "I22", "lost"),
    (index_without_one, "I22", "lost"),
    (find_one_twice, "I22", "reordered"),
    (count_one_unread_more, "I22", "wrong"),
    (list_an_old_head, "I22", "wrong"),
    (list_an_old_message, "I22", "wrong"),
    (forget_what_was_read, "I22", "wrong"),
    (claim_that_more_was_read, "I22", "wrong"),
    (forget_what_was_written, "I22", "wrong"),
    (list_nothing, "I22", "wrong"),
    (list_the_oldest_first, "I22", "reordered"),
    (add_up_wrongly, "I22", "wrong"),
    (count_one_less, "I22", "wrong"),
    (count_one_more_meanwhile, "I22", "wrong"),
    (lose_a_receipt, "I22", "lost"),
    (notify_twice, "I22", "doubled"),
    (repeat_a_notification, "I22", "doubled"),
    (forget_a_notification, "I22", "wrong"),
    (notify_behind_the_newest, "I22", "wrong"),
    (show_a_seen_one, "I22", "wrong"),
    (connect_another, "I22", "wrong"),
    (connect_twice, "I22", "wrong"),
    (connect_nobody, "I22", "wrong"),
    (answer_a_bug, "I21", "wrong"),
    (answer_a_raw_error, "I21", "wrong"),
    (answer_a_post_with_half_a_body, "I21", "wrong"),
    (answer_a_post_with_a_bug, "I21", "wrong"),
    (refuse_for_no_reason, "I21", "wrong"),
    (never_answer, "I21", "wrong"),
    (have_no_room, "I21", "wrong"),
    (refuse_a_member, "I21", "wrong"),
]


@pytest.mark.parametrize(("damage", "invariant", "sort"), BREAKS, ids=lambda value: getattr(value, "__name__", ""))
def test_each_way_to_break_a_read_is_found(damage, invariant, sort):
    history = KeptReads()
    damage(history)
    assert (invariant, sort) in history.verdict()


@pytest.mark.parametrize("damage", [refuse_for_no_reason, never_answer, have_no_room, connect_nobody])
def test_a_fault_explains_errors_of_its_time_alone(damage):
    history = KeptReads()
    damage(history)
    history.history.faults = [break_with("postgres", 25, LATE)]
    assert history.verdict() == []
    for other in (break_with("search", 25, LATE), break_with("postgres", -AFTER_S - 5, -AFTER_S + 20)):
        history.history.faults = [other]
        assert history.verdict() != []


def test_a_machine_that_does_much_else_refuses_some_calls():
    history = KeptReads()
    refuse_for_no_reason(history)
    history.history.slowdown = Slowdown(BEARABLE + 1, BEARABLE + 1)
    assert history.verdict() == []
    have_no_room(history)
    assert history.verdict() == [("I21", "wrong")]


def test_what_is_not_found_while_something_is_broken_is_found_later():
    history = KeptReads()
    find_late(history)
    history.history.faults = [break_with("search", 2, 20)]
    assert history.verdict() == []


def answer(status: int, body: bytes, kind: str = "application/problem+json") -> httpx2.Response:
    return httpx2.Response(status, headers={"content-type": kind}, content=body)


PLAIN = b'{"type":"t","title":"t","status":503,"detail":"d","code":"unavailable"}'
UNKNOWN = PLAIN[:-1] + b',"outcome":"unknown"}'


def test_a_plain_503_is_a_failure_and_any_other_leaves_it_unknown():
    plain, unknown = (attempt_of(answer(503, body), 0, 1) for body in (PLAIN, UNKNOWN))
    assert (plain.failed, plain.unknown) == (True, False)
    assert (unknown.failed, unknown.unknown) == (False, True)
    raw = attempt_of(answer(503, b"Service Unavailable", "text/plain"), 0, 1)
    assert (raw.failed, raw.unknown, bool(raw.defect)) == (False, True, True)
    gone = Attempt(0, 1, None)
    assert (gone.failed, gone.unknown) == (False, True)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (503, PLAIN, "application/json"),
        (503, b"{", "application/problem+json"),
        (502, PLAIN, "application/problem+json"),
        (503, b'{"status":503}', "application/problem+json"),
    ],
)
def test_an_error_that_is_no_problem_has_a_defect(status, body, kind):
    assert problem_of(answer(status, body, kind)).defect


def test_an_acceptance_without_a_place_is_none():
    accepted = b'{"messageId":"m","conversationId":"c","seq":3,"status":"sent","createdAt":"2026-01-01T00:00:00.000Z"}'
    assert attempt_of(answer(201, accepted, "application/json"), 0, 1).ok
    broken = attempt_of(answer(201, accepted[:-9], "application/json"), 0, 1)
    assert (broken.ok, broken.unknown, bool(broken.defect)) == (False, True, True)
