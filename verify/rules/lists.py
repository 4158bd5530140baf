"""Rules about search, unread counts, notifications, counts, receipts and tickets over HTTP (I22)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

from verify.final_state import FinalState
from verify.history import History
from verify.observations import ConversationList, ListedConversation, NotificationWalk, Search
from verify.rules.explanations import SOCKETS, is_explained, is_undisturbed
from verify.rules.reads import known_since
from verify.rules.violation import Violation

SEARCHABLE_S = 10.0
"""Seconds after its acceptance in which a message is found by its words, while nothing is broken."""


def accepted_is_found(history: History, states: Sequence[FinalState]) -> Iterator[Violation]:
    """I22: a search for an accepted message finds it, and no other; at the end always, and soon when nothing is
    broken."""
    last: dict[str, Search] = {}
    for search in history.reads.searches:
        last[search.message_id] = search
        others = [hit.message_id for hit in search.hits if hit.message_id != search.message_id]
        if others and not search.is_corrected:
            yield Violation("I22", "wrong", f"a search for {search.message_id} found {others[0]}", len(others))
        waited = search.call.began - search.accepted_at
        is_calm = is_undisturbed(history.faults, search.accepted_at, search.call.ended)
        if not _is_found(search) and waited > SEARCHABLE_S and is_calm:
            yield Violation("I22", "slow", f"message {search.message_id} is not found {waited:.0f} s after its answer")
    for id_, search in last.items():
        if not _is_found(search):
            yield Violation("I22", "lost", f"message {id_} is not found by its words at the end")


def index_is_whole(history: History, states: Sequence[FinalState]) -> Iterator[Violation]:
    """I22: a search finds each message of a conversation once, newest first, and at the end all of them."""
    rows = {state.conversation_id: {row.message_id for row in state.rows} for state in states}
    for search in history.reads.whole_searches:
        ids = [hit.message_id for hit in search.hits]
        where = f"{search.conversation_id}: the search of {search.call.user} for all messages"
        missing = rows.get(search.conversation_id, set()).difference(ids)
        if missing and search.is_last:
            yield Violation("I22", "lost", f"{where} does not find {min(missing)}", len(missing))
        if ids != sorted(set(ids), reverse=True):
            yield Violation("I22", "reordered", f"{where} finds some twice, or not newest first")


def lists_are_right(history: History, states: Sequence[FinalState]) -> Iterator[Violation]:
    """I22: each line of a user's conversations agrees with the log up to its head; the last activity comes first."""
    by_id = {state.conversation_id: state for state in states}
    known = {
        room.conversation_id: known_since(room, [p for p in history.reads.pages if p.conversation_id == id_])
        for id_, room in ((room.conversation_id, room) for room in history.rooms)
    }
    stays = {
        room.conversation_id: [user for user in room.workload.members if user != room.workload.leaver]
        for room in history.rooms
    }
    read: dict[tuple[str, str], int] = {}
    for listed in sorted(history.reads.lists, key=lambda listed: listed.call.began):
        user = listed.call.user
        times = [line.last_at for line in listed.lines]
        if times != sorted(times, reverse=True):
            yield Violation("I22", "reordered", f"conversations of {user}: {times[:5]} are not newest first")
        lines = {line.conversation_id: line for line in listed.lines}
        for id_, members in stays.items():
            if user in members and id_ in by_id:
                text = _wrong_line(lines.get(id_), by_id[id_], known[id_], listed, read)
                if text:
                    yield Violation("I22", "wrong", f"conversations of {user}, {id_}: {text}")


def _wrong_line(
    line: ListedConversation | None,
    state: FinalState,
    known: Mapping[int, float],
    listed: ConversationList,
    read: dict[tuple[str, str], int],
) -> str:
    """Return what is wrong with a line, if anything; note what the user has read in ``read``."""
    if line is None:
        return "it is not listed"
    rows = [row for row in state.rows if row.seq <= line.head]
    head = max((seq for seq, at in known.items() if at < listed.call.began), default=0)
    if not head <= line.head <= state.head:
        return f"head {line.head}; {head} was known before, {state.head} is the last"
    unread = sum(row.seq > line.read_seq for row in rows)
    if line.unread != unread:
        return f"unread {line.unread}; up to {line.head} there are {unread} messages after {line.read_seq}"
    if (line.last and line.last.seq) != (rows[-1].seq if rows else None):
        return f"its last message is not that of head {line.head}"
    key = (listed.call.user, line.conversation_id)
    before, read[key] = read.get(key, 0), max(line.read_seq, read.get(key, 0))
    if line.read_seq < before:
        return f"myReadSeq went from {before} to {line.read_seq}"
    return _wrong_end(line, state, listed)


def _wrong_end(line: ListedConversation, state: FinalState, listed: ConversationList) -> str:
    """Return what is wrong with myReadSeq: it covers what the user wrote, and at the end all receipts."""
    user = listed.call.user
    wrote = max((row.seq for row in state.rows if row.sender_id == user and row.seq <= line.head), default=0)
    marks = {mark.user_id: mark.read_seq for mark in state.watermarks}
    if line.read_seq < wrote:
        return f"myReadSeq is {line.read_seq}, though the user wrote {wrote}"
    if line.read_seq > max(marks.get(user, 0), wrote):
        return f"myReadSeq is {line.read_seq}, and the user has read only {marks.get(user, 0)}"
    return ""


def totals_are_sums(history: History, states: Sequence[FinalState]) -> Iterator[Violation]:
    """I22: at the end the total of unread messages is the sum of the lines."""
    for listed in history.reads.lists:
        unread = [line.unread for line in listed.lines]
        if listed.is_last and listed.total != (sum(unread), sum(map(bool, unread))):
            text = f"conversations of {listed.call.user}: total {listed.total}, lines {unread}"
            yield Violation("I22", "wrong", text)


def receipts_are_kept(history: History, states: Sequence[FinalState]) -> Iterator[Violation]:
    """I22: a receipt by ``POST`` that was answered 204 is stored in the end."""
    for room, state in zip(history.rooms, states, strict=True):
        marks = {mark.user_id: mark.read_seq for mark in state.watermarks}
        for receipt in room.receipts:
            user = receipt.call.user
            if receipt.call.status == 204 and marks.get(user, 0) < receipt.read_seq:
                text = f"{user} has read {marks.get(user, 0)}, and {receipt.read_seq} was answered 204"
                yield Violation("I22", "lost", f"{state.conversation_id}: {text}")


def counts_are_the_rows(history: History, states: Sequence[FinalState]) -> Iterator[Violation]:
    """I22: analytics never count more messages than there are, and at the end just these."""
    rows = {state.conversation_id: len(state.rows) for state in states}
    for counts in history.reads.counts:
        stored = rows.get(counts.conversation_id, counts.messages)
        if counts.messages > stored or (counts.is_last and counts.messages < stored):
            text = f"{counts.conversation_id}: {counts.messages} messages are counted, {stored} are stored"
            yield Violation("I22", "wrong", text)


def notifications_come_once(history: History, states: Sequence[FinalState]) -> Iterator[Violation]:
    """I22: the pages of a user's notifications have each once, newest first; later ones bring only newer ones.

    Those of a conversation are hidden while the user is removed from it, and shown again in their places.
    """
    before: dict[str, NotificationWalk] = {}
    removed_from = {(room.workload.leaver, room.conversation_id) for room in history.rooms}
    for walk in sorted(history.reads.walks, key=lambda walk: walk.began):
        ids = [entry.notification_id for entry in walk.entries]
        where = f"notifications of {walk.user}"
        if len(set(ids)) < len(ids):
            yield Violation("I22", "doubled", f"{where}: one is repeated")
        about = Counter((entry.message.message_id, entry.channel) for entry in walk.entries)
        if twice := [id_ for (id_, _), count in about.items() if count > 1]:
            yield Violation("I22", "doubled", f"{where}: message {twice[0]} is told twice", len(twice))
        if walk.unseen:
            if any(entry.is_seen for entry in walk.entries):
                yield Violation("I22", "wrong", f"{where}: a seen one is among the unseen")
            continue
        earlier = before.get(walk.user)
        if earlier is not None and earlier.ended < walk.began and (text := _changed(earlier, walk, removed_from)):
            yield Violation("I22", "wrong", f"{where}: {text}")
        before[walk.user] = walk


def _changed(earlier: NotificationWalk, later: NotificationWalk, removed_from: Collection[tuple[str, str]]) -> str:
    """Return what is wrong with a later list: the earlier one is its end, in the same order."""
    old, ids = (
        [
            entry.notification_id
            for entry in walk.entries
            if (walk.user, entry.message.conversation_id) not in removed_from
        ]
        for walk in (earlier, later)
    )
    if gone := set(old) - set(ids):
        return f"{len(gone)} have disappeared"
    if ids[len(ids) - len(old) :] != old:
        return "one has come behind others that are older, or the order has changed"
    return ""


def tickets_work_once(history: History, states: Sequence[FinalState]) -> Iterator[Violation]:
    """I22: a ticket connects its user, and only once."""
    for use in history.reads.tickets:
        user = use.call.user
        for connected in (use.first, use.second):
            if connected not in ("", user):
                yield Violation("I22", "wrong", f"a ticket of {user} connected {connected}")
        if use.first and use.second:
            yield Violation("I22", "wrong", f"a ticket of {user} connected twice")
        if not use.first and not is_explained(history.faults, SOCKETS, use.call.began, use.ended):
            yield Violation("I22", "wrong", f"a ticket of {user} did not connect, and no fault explains it")


def _is_found(search: Search) -> bool:
    return any(hit.message_id == search.message_id for hit in search.hits)
