"""Rules about notifications (I7): one for each message that reached no device of a member, and none else.

In a large conversation one notification stands for all messages that follow, until it is seen or its message delivered.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise

from verify.final_state import FinalState, StoredNotification, Watermark
from verify.history import History, Room, Screen
from verify.rules.disturbance import ALL, DELIVERING, RECEIVING, is_disturbed
from verify.rules.violation import Violation
from verify.sessions import Session
from verify.workload import DeviceKind

EACH_MAX_MEMBERS = 64
"""In larger conversations a notification stands for all messages that follow."""
NOTIFIED_S = 15.0
"""Seconds from the answer to a message in which everybody is notified whom it did not reach, on an idle machine."""
PROMPT_S = 2.0
"""Nobody is notified of a message that a device has acknowledged so soon."""


def is_collapsed(room: Room) -> bool:
    """Return True when one notification stands for all messages that follow."""
    return len(room.workload.members) > EACH_MAX_MEMBERS


def owed(messages: Iterable[tuple[str, int, str]], user: str, delivered: int) -> list[str]:
    """Return the messages that reached no device of a member: each must have its notification. ``messages`` are
    (id, seq, sender)."""
    return [message_id for message_id, seq, sender in messages if seq > delivered and sender != user]


def who_was_not_reached_is_notified(room: Room, state: FinalState) -> Iterator[Violation]:
    """I7: each message that a member's devices have never acknowledged has one notification; in a large conversation
    there is at most one that is open, and one for who has never acknowledged anything."""
    messages = [(row.message_id, row.seq, row.sender_id) for row in state.rows]
    delivered = delivered_by(state.watermarks)
    for user in sorted(room.workload.away):
        mine = [each for each in state.notifications if each.user_id == user]
        mark = delivered.get(user, 0)
        missing = owed(messages, user, mark)
        if not is_collapsed(room):
            notified = {each.message_id for each in mine}
            for message_id in missing:
                if message_id not in notified:
                    yield _violation(state, f"{user} was not notified of message {message_id}, which reached no device")
            continue
        still_open = [each for each in mine if each.seq > mark and not each.seen]
        if len(still_open) > 1 or (mark == 0 and bool(missing) != bool(still_open)):
            yield _violation(state, f"{user} has {len(still_open)} open notifications for {len(missing)} messages")


def notifications_are_of_messages(room: Room, state: FinalState) -> Iterator[Violation]:
    """I7: each notification is of a message of another, for a member, and none is made twice."""
    rows = {row.message_id: row for row in state.rows}
    for each in state.notifications:
        row = rows.get(each.message_id)
        if row is None or row.seq != each.seq or row.sender_id == each.user_id:
            yield _violation(
                state, f"notification {each.notification_id} of {each.user_id} is of no message of another"
            )
        if room.workload.members and each.user_id not in room.workload.members:
            yield _violation(state, f"{each.user_id} was notified, and is no member")
    for (user, message_id), count in Counter((each.user_id, each.message_id) for each in state.notifications).items():
        if count > 1:
            yield _violation(state, f"{user} has {count} notifications of message {message_id}", "doubled")


def phones_are_notified_while_away(history: History, states: Sequence[FinalState]) -> Iterator[Violation]:
    """I7: a message that was sent while a member's only device was away, and stayed away, has its notification, though
    the device has it by now. On a machine that is too busy nobody can tell what it missed."""
    if not history.slowdown.is_bearable:
        return
    for room, state in zip(history.rooms, states, strict=True):
        notified = {(each.user_id, each.message_id) for each in state.notifications}
        for screen in (s for s in room.screens if s.spec.kind is DeviceKind.PHONE and not is_collapsed(room)):
            for message_id in _missed(history, room, screen):
                if (screen.spec.user, message_id) not in notified:
                    text = f"{screen.spec.user} was away, and was not notified of message {message_id}"
                    yield _violation(state, text)


def _missed(history: History, room: Room, screen: Screen) -> Iterator[str]:
    within_s = NOTIFIED_S * history.slowdown.worst
    for before, after in pairwise(screen.stays):
        for sending in room.sendings:
            answer = sending.accepted
            if answer is None or sending.attempts[0].began <= before.ended:
                continue
            until = answer.ended + within_s
            if until < after.began and not is_disturbed(history.faults, ALL, sending.attempts[0].began, until):
                yield answer.message_id


def who_was_reached_is_not_notified(history: History, states: Sequence[FinalState]) -> Iterator[Violation]:
    """I7: nobody is notified of a message that a steady device has acknowledged at once, unless receipts were held
    up."""
    for room, state in zip(history.rooms, states, strict=True):
        notified = {(each.user_id, each.message_id) for each in state.notifications}
        for screen in (s for s in room.screens if s.spec.kind is DeviceKind.STEADY):
            delivered = list(accumulate((receipt.delivered_seq for receipt in screen.receipts), max))
            for sending in room.sendings:
                answer = sending.accepted
                if answer is None or (screen.spec.user, answer.message_id) not in notified:
                    continue
                began, first = sending.attempts[0].began, bisect_left(delivered, answer.seq)
                if first == len(delivered) or screen.receipts[first].at > began + PROMPT_S:
                    continue
                if not is_disturbed(history.faults, RECEIVING, began, answer.ended + NOTIFIED_S):
                    text = f"{screen.spec.user} was notified of seq {answer.seq}, which a device had acknowledged"
                    yield _violation(state, text)


def inboxes_are_the_store(history: History, states: Sequence[FinalState]) -> Iterator[Violation]:
    """I7: ``GET /notifications`` shows each notification of who was away once, and nothing else."""
    for room, state in zip(history.rooms, states, strict=True):
        for user in sorted(room.workload.away & history.inboxes.keys()):
            shown = Counter(
                (each.notification_id, each.message_id)
                for each in history.inboxes[user]
                if each.conversation_id == state.conversation_id
            )
            stored = Counter((n.notification_id, n.message_id) for n in state.notifications if n.user_id == user)
            if shown != stored:
                text = f"{user} is shown {shown.total()} notifications, of {stored.total()} that are stored"
                yield _violation(state, text, "doubled" if max(shown.values(), default=0) > 1 else "wrong")


def notification_frames_come_once(history: History, states: Sequence[FinalState]) -> Iterator[Violation]:
    """I7: on one socket each notification is announced once, as it is stored. A record that is read again after a
    fault may be announced again."""
    stored = {each.notification_id: (state.conversation_id, each) for state in states for each in state.notifications}
    judged = {state.conversation_id for state in states}
    for session in history.sessions.all:
        where, seen = f"on the {session.device} of {session.user}", set[str]()
        for at, frame in session.notifications:
            conversation, notification = stored.get(frame.notification_id, ("", None))
            named = (frame.conversation_id, frame.message_id, frame.seq)
            if frame.conversation_id not in judged:
                continue
            if notification is None or named != (conversation, notification.message_id, notification.seq):
                yield Violation("I7", "wrong", f"{where}: notification {frame.notification_id} is not in the store")
            elif notification.user_id != session.user:
                yield Violation("I7", "wrong", f"{where}: the notification of {notification.user_id}")
            if frame.notification_id in seen and not is_disturbed(history.faults, ALL, at, at):
                yield Violation("I7", "doubled", f"{where}: notification {frame.notification_id} came twice")
            seen.add(frame.notification_id)
        yield from _unannounced(history, session, stored, seen)


def _unannounced(
    history: History, session: Session, stored: Mapping[str, tuple[str, StoredNotification]], seen: set[str]
) -> Iterator[Violation]:
    """Yield the notifications of messages that were sent after the socket opened, which it was not told of."""
    if session.ended < history.rested_at or is_disturbed(history.faults, DELIVERING, session.began, history.rested_at):
        return
    missing = {n.message_id for id_, (_, n) in stored.items() if n.user_id == session.user and id_ not in seen}
    for room in history.rooms if missing else ():
        for sending in room.sendings:
            answer = sending.accepted
            if answer is not None and answer.message_id in missing and sending.attempts[0].began > session.began:
                text = f"the notification of message {answer.message_id} was not announced"
                yield Violation("I7", "wrong", f"on the {session.device} of {session.user}: {text}")


def delivered_by(watermarks: Sequence[Watermark]) -> Mapping[str, int]:
    """Return the delivered watermark of each member."""
    return {mark.user_id: mark.delivered_seq for mark in watermarks}


def _violation(state: FinalState, text: str, sort: str = "wrong") -> Violation:
    return Violation("I7", sort, f"{state.conversation_id} {text}")
