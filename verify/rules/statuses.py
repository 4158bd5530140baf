"""Rules about the ``message_status`` frames on sockets (I8, I13): what senders are shown of receipts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from verify.final_state import FinalState, StoredMessage
from verify.history import History, Room
from verify.rules.disturbance import DELIVERING, is_disturbed
from verify.rules.violation import Violation
from verify.sessions import Session

_SENT, _DELIVERED, _READ = 1, 2, 3
_STATUSES = {"sent": _SENT, "delivered": _DELIVERED, "read": _READ}
_Mark: TypeAlias = tuple[int, int]
"""Delivered and read watermark."""
_Member: TypeAlias = tuple[str, str]
"""Conversation and user."""


def watermarks_rise_on_sockets(history: History, states: Sequence[FinalState]) -> Iterator[Violation]:
    """I13: on one socket no watermark of a member, and no status of a message, is lower than before."""
    for session in history.sessions.all:
        marks, statuses = dict[_Member, _Mark](), dict[str, int]()
        for frame in session.statuses:
            member, mark = (frame.conversation_id, frame.user_id), (frame.delivered_seq, frame.read_seq)
            before = marks.get(member, (0, 0))
            if mark[0] < before[0] or mark[1] < before[1]:
                yield _violation("I13", session, f"{member[0]} {member[1]} went from {before} to {mark}")
            marks[member] = max(mark[0], before[0]), max(mark[1], before[1])
            if isinstance(frame.message_id, str):
                status, had = _STATUSES.get(frame.status, 0), statuses.get(frame.message_id, _SENT)
                if status < had:
                    yield _violation("I8", session, f"message {frame.message_id} went from {had} to {frame.status}")
                statuses[frame.message_id] = max(status, had)


def watermarks_on_sockets_are_stored(history: History, states: Sequence[FinalState]) -> Iterator[Violation]:
    """I13: no frame tells of a watermark that is beyond the one in the store."""
    stored = {
        (state.conversation_id, mark.user_id): (mark.delivered_seq, mark.read_seq)
        for state in states
        for mark in state.watermarks
    }
    workloads = {room.conversation_id: room.workload for room in history.rooms}
    for session in history.sessions.all:
        for member, mark in _furthest(session).items():
            conversation, user = member
            if (workload := workloads.get(conversation)) is None:
                continue
            if user not in workload.members:
                yield _violation("I13", session, f"{user} is no member of {conversation}")
            elif user != workload.leaver and not _covers(stored.get(member, (0, 0)), mark):  # a leaver begins anew
                yield _violation("I13", session, f"{member} is said to be at {mark}, and is at {stored.get(member)}")


def senders_see_statuses(history: History, states: Sequence[FinalState]) -> Iterator[Violation]:
    """I8: on a socket that was open from before a message was sent to the end, its sender is shown at last what the
    store says of it, and never more. A frame that died with Redis or a gateway is not sent again."""
    sent = _sent(history.rooms, states)
    for session in history.sessions.all:
        if session.ended < history.rested_at:
            continue
        others: defaultdict[str, _Mark] = defaultdict(lambda: (0, 0))
        for (conversation, user), mark in _furthest(session).items():
            if user != session.user:
                before = others[conversation]
                others[conversation] = max(before[0], mark[0]), max(before[1], mark[1])
        for message in sent.get(session.user, ()):
            if message.began <= session.began:
                continue
            shown, row = _status(message.row.seq, others[message.row.conversation_id]), message.row
            lost = shown < row.status and not is_disturbed(history.faults, DELIVERING, message.began, history.rested_at)
            if lost or shown > row.status:
                text = f"{row.conversation_id} seq {row.seq} is shown as {shown}, and is {row.status}"
                yield _violation("I8", session, text)


@dataclass(frozen=True, slots=True)
class _SentMessage:
    """A message in the store. ``began`` is when its sender first tried."""

    row: StoredMessage
    began: float


def _sent(rooms: Sequence[Room], states: Sequence[FinalState]) -> Mapping[str, Sequence[_SentMessage]]:
    """Return the messages of each sender."""
    messages: defaultdict[str, list[_SentMessage]] = defaultdict(list)
    for room, state in zip(rooms, states, strict=True):
        began = {sending.send.key: sending.attempts[0].began for sending in room.sendings if sending.attempts}
        for row in state.rows:
            if row.key in began:
                messages[row.sender_id].append(_SentMessage(row, began[row.key]))
    return messages


def _furthest(session: Session) -> Mapping[_Member, _Mark]:
    """Return the highest watermarks of each member that a socket was sent."""
    marks = dict[_Member, _Mark]()
    for frame in session.statuses:
        member = (frame.conversation_id, frame.user_id)
        delivered, read = marks.get(member, (0, 0))
        marks[member] = max(delivered, frame.delivered_seq), max(read, frame.read_seq)
    return marks


def _status(seq: int, mark: _Mark) -> int:
    return _READ if seq <= mark[1] else _DELIVERED if seq <= mark[0] else _SENT


def _covers(mark: _Mark, other: _Mark) -> bool:
    return mark[0] >= other[0] and mark[1] >= other[1]


def _violation(invariant: str, session: Session, text: str) -> Violation:
    return Violation(invariant, "wrong", f"on the {session.device} of {session.user}: {text}")
