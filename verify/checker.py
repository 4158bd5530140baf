"""The verdict: what clients were answered and shown, against what the store holds. Pure.

One set of rules judges the trials of ``millrace verify``, the days of ``millrace replay-irc`` and the fault tests. The
numbers are those of the invariants in docs/reliability.md.
"""

from __future__ import annotations

from collections.abc import Sequence

from verify.final_state import FinalState, LogEntry, StoredMessage, digest
from verify.history import History, Room
from verify.rules.answers import (
    accepted_is_stored,
    failures_are_true,
    one_key_one_message,
    refusals_are_right,
    seqs_are_dense,
    stored_was_sent,
)
from verify.rules.calls import answers_are_whole, errors_are_explained, readers_are_not_refused
from verify.rules.files import files_are_announced, files_are_right, members_get_files, uploads_are_kept
from verify.rules.joins import latest_hints_come, nothing_comes_after_a_removal, screens_begin_as_asked
from verify.rules.lists import (
    accepted_is_found,
    counts_are_the_rows,
    index_is_whole,
    lists_are_right,
    notifications_come_once,
    receipts_are_kept,
    tickets_work_once,
    totals_are_sums,
)
from verify.rules.notifications import (
    inboxes_are_the_store,
    notification_frames_come_once,
    notifications_are_of_messages,
    phones_are_notified_while_away,
    who_was_not_reached_is_notified,
    who_was_reached_is_not_notified,
)
from verify.rules.processes import ends_are_explained, errors_are_handled, letters_are_planned
from verify.rules.reads import (
    pages_are_in_order,
    pages_are_whole,
    readers_see_what_is_stored,
    strangers_read_nothing,
)
from verify.rules.receipts import (
    nothing_is_pending,
    receipts_are_stored,
    statuses_follow_receipts,
    watermarks_are_bounded,
    who_answers_has_read,
)
from verify.rules.runs import all_comes_to_rest, audit_agrees, nothing_falls, nothing_leaks
from verify.rules.screens import frames_say_what_was_sent, screens_are_whole, stay_end, strangers_get_nothing
from verify.rules.statuses import (
    senders_see_statuses,
    watermarks_on_sockets_are_stored,
    watermarks_rise_on_sockets,
)
from verify.rules.times import latencies_are_short, probes_get_through, recoveries_are_quick
from verify.rules.violation import Rule, RunRule, Violation

FROM_OUTSIDE: tuple[Rule, ...] = (seqs_are_dense, screens_are_whole, frames_say_what_was_sent)
"""Rules that can be judged where the store is not looked at: see ``state_of_answers``."""
WITHOUT_WORKLOAD: tuple[Rule, ...] = (
    accepted_is_stored,
    one_key_one_message,
    stored_was_sent,
    failures_are_true,
    nothing_is_pending,
    *FROM_OUTSIDE,
)
"""Rules that can be judged where requests may be refused, and receipts be on their way."""
ALL: tuple[Rule, ...] = (
    *WITHOUT_WORKLOAD,
    refusals_are_right,
    strangers_get_nothing,
    screens_begin_as_asked,
    watermarks_are_bounded,
    statuses_follow_receipts,
    who_answers_has_read,
    receipts_are_stored,
    who_was_not_reached_is_notified,
    notifications_are_of_messages,
)

READ: tuple[RunRule, ...] = (
    answers_are_whole,
    errors_are_explained,
    readers_are_not_refused,
    pages_are_whole,
    pages_are_in_order,
    readers_see_what_is_stored,
    strangers_read_nothing,
    accepted_is_found,
    index_is_whole,
    lists_are_right,
    totals_are_sums,
    notifications_come_once,
    counts_are_the_rows,
    receipts_are_kept,
    tickets_work_once,
    uploads_are_kept,
    files_are_announced,
    members_get_files,
    files_are_right,
)
"""Rules about calls over HTTP beside the message load."""
WHOLE: tuple[RunRule, ...] = (
    recoveries_are_quick,
    latencies_are_short,
    probes_get_through,
    nothing_falls,
    audit_agrees,
    nothing_leaks,
    all_comes_to_rest,
    ends_are_explained,
    letters_are_planned,
    errors_are_handled,
    nothing_comes_after_a_removal,
    latest_hints_come,
    watermarks_rise_on_sockets,
    watermarks_on_sockets_are_stored,
    senders_see_statuses,
    phones_are_notified_while_away,
    who_was_reached_is_not_notified,
    inboxes_are_the_store,
    notification_frames_come_once,
    *READ,
)
"""Rules about a run as a whole."""


def judge(history: History, states: Sequence[FinalState]) -> list[Violation]:
    """Return everything that was broken in a trial, with its evidence."""
    found = [
        violation
        for room, state in zip(history.rooms, states, strict=True)
        for violation in judge_room(room, state, ALL)
    ]
    return found + [violation for rule in WHOLE for violation in rule(history, states)]


def judge_room(room: Room, state: FinalState, rules: Sequence[Rule]) -> list[Violation]:
    """Return what these rules find in one conversation."""
    return [violation for rule in rules for violation in rule(room, state)]


def state_of_answers(room: Room, head: int) -> FinalState:
    """Return the state that the answers promise: each message that was accepted, and at every other seq up to the
    head a change that is no message. Nothing of the server is used but the seqs that it gave."""
    rows = [
        StoredMessage(
            message_id=answer.message_id,
            conversation_id=room.conversation_id,
            seq=answer.seq,
            sender_id=sending.send.sender,
            key=sending.send.key,
            digest=digest(sending.send.content),
            status=1,
        )
        for sending in room.sendings
        if (answer := sending.accepted) is not None
    ]
    ids = {row.seq: row.message_id for row in rows}
    entries = [LogEntry(seq, "message" if seq in ids else "other", ids.get(seq)) for seq in range(1, head + 1)]
    return FinalState(room.conversation_id, head, rows, entries)


def deliveries(room: Room, state: FinalState) -> tuple[int, int]:
    """Return (how many content frames the screens are owed, how many different ones they were shown of those)."""
    expected = delivered = 0
    for screen in room.screens:
        until = stay_end(screen, state)
        expected += max(0, until - screen.after)
        delivered += len({seq for seq in screen.seqs if screen.after < seq <= until})
    return expected, delivered
