"""Rules about what users read over HTTP: nothing that was accepted is missing, and nothing else is there (I22)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from verify.final_state import FinalState, StoredMessage
from verify.history import History, Room
from verify.observations import HistoryPage, Search, ShownMessage, WholeSearch
from verify.rules.violation import Violation

_MANY = 3


def pages_are_whole(history: History, states: Sequence[FinalState]) -> Iterator[Violation]:
    """I22: a page has every message of its range that was accepted, shown or read before it was asked for."""
    for room, state in zip(history.rooms, states, strict=True):
        pages = [page for page in history.reads.pages if page.conversation_id == state.conversation_id]
        known = known_since(room, pages)
        rows = {row.seq: row for row in state.rows}
        for page in pages:
            where = f"{state.conversation_id} {_named(page)}"
            first, last = _covered(page)
            there = {message.seq for message in page.messages}
            missing = [
                seq
                for seq in rows
                if first <= seq <= last and seq not in there and known.get(seq, float("inf")) < page.call.began
            ]
            if missing:
                yield Violation("I22", "lost", f"{where} leaves out {missing[:_MANY]}", len(missing))
            head = max((seq for seq, at in known.items() if at < page.call.began), default=0)
            if not head <= page.head <= state.head:
                text = f"{where}: head {page.head}; {head} was known before, {state.head} is the last"
                yield Violation("I22", "wrong", text)


def pages_are_in_order(history: History, states: Sequence[FinalState]) -> Iterator[Violation]:
    """I22: a page is ascending, inside of its bounds, and no longer than asked for."""
    for page in history.reads.pages:
        seqs = [message.seq for message in page.messages]
        where = f"{page.conversation_id} {_named(page)}"
        low, high = page.after or 0, float("inf") if page.before is None else page.before
        if any(one >= other for one, other in pairwise(seqs)):
            yield Violation("I22", "reordered", f"{where} has {seqs[:10]}")
        if any(not low < seq < high for seq in seqs) or len(seqs) > page.limit:
            yield Violation("I22", "wrong", f"{where} is out of its bounds: {seqs[:10]}")
        if page.has_more and not seqs:
            yield Violation("I22", "wrong", f"{where} is empty and says that there is more")


def readers_see_what_is_stored(history: History, states: Sequence[FinalState]) -> Iterator[Violation]:
    """I22: each message that a reader was shown is stored like that, in a conversation of the reader's."""
    rows = {row.message_id: row for state in states for row in state.rows}
    members = members_of(history.rooms)
    for user, what, message in _shown(history):
        row = rows.get(message.message_id)
        where = f"{what} of {user}: {message.conversation_id} seq {message.seq} message {message.message_id}"
        if user not in members.get(message.conversation_id, ()):
            yield Violation("I11", "wrong", f"{where} is of a conversation of others")
        elif row is None or not agrees(message, row):
            yield Violation("I22", "wrong", f"{where} is not what is stored")


def strangers_read_nothing(history: History, states: Sequence[FinalState]) -> Iterator[Violation]:
    """I11: a user who is no member reads no history."""
    for page in history.reads.strangers:
        text = f"{page.conversation_id}: a stranger was shown {page.messages} messages over HTTP"
        yield Violation("I11", "wrong", text)


def members_of(rooms: Sequence[Room]) -> Mapping[str, Sequence[str]]:
    """Return the members of each conversation."""
    return {room.conversation_id: room.workload.members for room in rooms}


def agrees(message: ShownMessage, row: StoredMessage) -> bool:
    """Return True when a message was shown as it is stored."""
    return (message.conversation_id, message.seq, message.sender_id, message.digest) == (
        row.conversation_id,
        row.seq,
        row.sender_id,
        row.digest,
    )


def known_since(room: Room, pages: Sequence[HistoryPage]) -> Mapping[int, float]:
    """Return when a client first knew of each seq: by an answer to its sender, a screen, or a page."""
    known: dict[int, float] = {}

    def learn(seq: int, at: float) -> None:
        known[seq] = min(at, known.get(seq, at))

    for sending in room.sendings:
        if sending.accepted is not None:
            learn(sending.accepted.seq, sending.accepted.ended)
    for screen in room.screens:
        for seq, at in zip(screen.seqs, screen.times, strict=True):
            learn(seq, at)
    for page in pages:
        for message in page.messages:
            learn(message.seq, page.call.ended)
    return known


def _covered(page: HistoryPage) -> tuple[float, float]:
    """Return the first and the last seq of which the page says that it has them all."""
    low = (page.after or 0) + 1
    high = float("inf") if page.before is None else page.before - 1
    if not page.has_more or not page.messages:
        return low, high
    if page.after is not None:
        return low, page.messages[-1].seq
    return page.messages[0].seq, high


def _named(page: HistoryPage) -> str:
    bounds = {"after": page.after, "before": page.before, "limit": page.limit}
    query = "&".join(f"{name}={value}" for name, value in bounds.items() if value is not None)
    return f"page {query} of {page.call.user}"


def _shown(history: History) -> Iterator[tuple[str, str, ShownMessage]]:
    """Yield each message that a reader was shown, with the reader and the call."""
    reads = history.reads
    for page in reads.pages:
        yield from ((page.call.user, "history", message) for message in page.messages)
    searches: list[Search | WholeSearch] = [*reads.searches, *reads.whole_searches]
    for search in searches:
        yield from ((search.call.user, "search", message) for message in search.hits)
    for listed in reads.lists:
        lasts = (line.last for line in listed.lines)
        yield from ((listed.call.user, "conversations", last) for last in lasts if last is not None)
    for walk in reads.walks:
        yield from ((walk.user, "notifications", entry.message) for entry in walk.entries)
