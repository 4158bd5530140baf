"""Rules about the beginning of a screen, its hints, and its end (I10, I11)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from verify.final_state import FinalState
from verify.history import History, Room, Screen
from verify.rules.disturbance import DELIVERING, MEMBERSHIPS, is_disturbed
from verify.rules.violation import Violation

REMOVED_S, REMOVED_LATE_S = 2.0, 30.0
"""Seconds after the answer that a membership has ended, in which a message may be sent that still arrives; and while
Redis, or another part that spreads the news, is away."""
ON_ITS_WAY_S = 3.0
"""Seconds for which a frame may be on its way on an idle machine."""


def screens_begin_as_asked(room: Room, state: FinalState) -> Iterator[Violation]:
    """I10: a screen begins after the seq that its device has asked for; one that asks for what is new begins at the
    head, as clients know it from answers: behind all that was answered before, and before all that was sent later."""
    for screen in room.screens:
        if screen.began_at is None or screen.asked_at is None:
            continue
        where = f"{state.conversation_id} on the {screen.spec.device} of {screen.spec.user}"
        if screen.asked is not None:
            if screen.after != screen.asked:
                yield Violation("I10", "lost", f"{where}: begins after {screen.after}, and not after {screen.asked}")
            continue
        for sending in room.sendings:
            answer = sending.accepted
            if answer is None:
                continue
            if sending.attempts[0].began > screen.began_at and answer.seq <= screen.after:
                text = f"begins after {screen.after}, though {answer.seq} was sent later"
                yield Violation("I10", "lost", f"{where}: {text}")
            if answer.ended < screen.asked_at and answer.seq > screen.after:
                text = f"begins after {screen.after}, though {answer.seq} was stored before"
                yield Violation("I10", "wrong", f"{where}: {text}")


def latest_hints_come(history: History, states: Sequence[FinalState]) -> Iterator[Violation]:
    """I10: a socket that was open from before the last message of a conversation, and does not follow it, is told of
    that message. A hint that died with Redis or a gateway is not sent again."""
    latest = [(room, _latest(room)) for room in history.rooms]
    for session in (s for s in history.sessions.all if s.ended >= history.rested_at):
        for room, (seq, began) in latest:
            if not seq or began <= session.began or room.conversation_id == session.follows:
                continue
            if session.user not in room.workload.members or session.user == room.workload.leaver:
                continue
            told = session.hints.get(room.conversation_id, 0)
            if told < seq and not is_disturbed(history.faults, DELIVERING, began, history.rested_at):
                text = f"was told of {room.conversation_id} up to {told}, and not of the last message, {seq}"
                yield Violation("I10", "wrong", f"the {session.device} of {session.user} {text}")


def _latest(room: Room) -> tuple[int, float]:
    """Return the seq of the last message that was accepted, and when its sender first tried."""
    accepted = ((s.accepted.seq, s.attempts[0].began) for s in room.sendings if s.accepted is not None)
    return max(accepted, default=(0, 0.0))


def nothing_comes_after_a_removal(history: History, states: Sequence[FinalState]) -> Iterator[Violation]:
    """I11: who was removed is sent nothing about the conversation, on any socket, that was said later than soon after
    the answer; and what was on its way arrives soon, too."""
    on_its_way_s = ON_ITS_WAY_S * history.slowdown.worst
    for room in history.rooms:
        began = {s.accepted.seq: s.attempts[0].began for s in room.sendings if s.accepted is not None}
        for screen in room.screens:
            if screen.removed_at is None:
                continue
            since = screen.removed_at + _takes_effect_s(history, screen.removed_at)
            shown = list(zip(screen.times, screen.seqs, strict=True))
            yield from _late(room, screen, screen.spec.device, shown, began, since, on_its_way_s)
            for session in (s for s in history.sessions.all if s.user == screen.spec.user):
                heard = session.heard.get(room.conversation_id, ())
                yield from _late(room, screen, session.device, heard, began, since, on_its_way_s)


def _takes_effect_s(history: History, removed_at: float) -> float:
    is_slow = is_disturbed(history.faults, MEMBERSHIPS, removed_at, removed_at + REMOVED_S)
    return REMOVED_LATE_S if is_slow else REMOVED_S


def _late(
    room: Room,
    screen: Screen,
    device: str,
    frames: Iterable[tuple[float, int]],
    began: Mapping[int, float],
    since: float,
    on_its_way_s: float,
) -> Iterator[Violation]:
    """Yield a violation for frames, (time, seq), of messages that were sent, or of anything that came, too late."""
    until = float("inf") if screen.added_again_at is None else screen.added_again_at
    late = [seq for at, seq in frames if at < until and (at > since + on_its_way_s or began.get(seq, 0.0) > since)]
    if late:
        text = f"{screen.spec.user} was removed, and was sent {late[:5]} on the {device}"
        yield Violation("I11", "wrong", f"{room.conversation_id}: {text}")
