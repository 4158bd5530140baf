"""The verdict on one conversation, from what clients were answered and what was on their screens. Pure.

Nothing of the product is used to judge it but the seqs it gave: each member must have seen, from the join on, every
content change once, in order, and in each message exactly what was accepted.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Accepted:
    """A POST that was answered 2xx."""

    message_id: str
    sender_id: str
    content: str
    began: float


@dataclass(slots=True)
class Seen:
    """One stay of one member: from the join (exclusive) to its end (inclusive). ``seqs`` and ``times`` are what was on
    the screen, as it came."""

    member: str
    after: int
    until: int | None = None
    seqs: array[int] = field(default_factory=lambda: array("q"))
    times: array[float] = field(default_factory=lambda: array("d"))


@dataclass(slots=True)
class Verdict:
    """What was found; all lists are empty when the promise was kept. Each entry names its evidence."""

    expected: int = 0
    delivered: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    reordered: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def kept(self) -> bool:
        """Whether the promise was kept."""
        return not (self.lost or self.doubled or self.reordered or self.wrong)


@dataclass(frozen=True, slots=True)
class Shown:
    """The content of a ``new_message`` frame; other content frames have no message."""

    message_id: str
    sender_id: str
    content: str


def judge(
    conversation: str,
    head: int,
    accepted: Mapping[int, Accepted],
    frames: Mapping[int, Shown | None],
    stays: Sequence[Seen],
) -> Verdict:
    """``frames``: what each seq said on the screens (equal on all of them; differences are reported apart)."""
    verdict = Verdict()
    _judge_frames(conversation, accepted, frames, verdict)
    for stay in stays:
        _judge_stay(conversation, head, stay, verdict)
    return verdict


def _judge_frames(
    conversation: str, accepted: Mapping[int, Accepted], frames: Mapping[int, Shown | None], verdict: Verdict
) -> None:
    for seq, shown in frames.items():
        posted = accepted.get(seq)
        if posted is None:
            if shown is not None:
                verdict.wrong.append(f"{conversation} seq {seq}: message {shown.message_id} was never accepted")
        elif shown is None:
            verdict.wrong.append(f"{conversation} seq {seq}: accepted as {posted.message_id}, shown as no message")
        elif (shown.message_id, shown.sender_id, shown.content) != (
            posted.message_id,
            posted.sender_id,
            posted.content,
        ):
            verdict.wrong.append(f"{conversation} seq {seq}: message {posted.message_id} is not what was accepted")


def _judge_stay(conversation: str, head: int, stay: Seen, verdict: Verdict) -> None:
    where = f"{conversation} {stay.member}"
    until = head if stay.until is None else stay.until
    verdict.expected += until - stay.after
    seen: set[int] = set()
    last = stay.after
    for seq in stay.seqs:
        if seq in seen:
            verdict.doubled.append(f"{where} seq {seq}")
            continue
        seen.add(seq)
        if not stay.after < seq <= until:
            verdict.wrong.append(f"{where} seq {seq}: outside of the stay ({stay.after}, {until}]")
            continue
        verdict.delivered += 1
        if seq < last:
            verdict.reordered.append(f"{where} seq {seq} after {last}")
        last = max(last, seq)
    if len(seen) < until - stay.after:
        verdict.lost += [f"{where} seq {seq}" for seq in range(stay.after + 1, until + 1) if seq not in seen]
