"""What was seen from outside during a run: every request with its answer, every screen, every fault."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from verify.frames import Frames
from verify.workload import DeviceSpec, RoomWorkload, Send


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request and its answer; times are of ``time.monotonic()``. ``status`` is None when there was no answer, so
    that nobody can know what became of it."""

    began: float
    ended: float
    status: int | None
    message_id: str = ""
    seq: int = 0
    code: str = ""

    @property
    def ok(self) -> bool:
        """Whether the message was accepted."""
        return self.status in (200, 201)

    @property
    def refused(self) -> bool:
        """Whether it surely was not, and will not be."""
        return self.status is not None and 400 <= self.status < 500 and self.status != 429


@dataclass(slots=True)
class Sending:
    """All tries of one message. ``other`` are those with other content under the same key."""

    send: Send
    attempts: list[Attempt] = field(default_factory=list)
    mismatched: list[Attempt] = field(default_factory=list)

    @property
    def accepted(self) -> Attempt | None:
        """The first answer that said so."""
        return next((t for t in self.attempts if t.ok), None)

    @property
    def unknown(self) -> bool:
        """Whether it may or may not be stored, as far as its client knows."""
        return self.accepted is None and any(t.status is None or t.status >= 500 for t in self.attempts)


@dataclass(slots=True)
class Screen:
    """One device in one conversation: the seqs as they came on its screen, and when."""

    spec: DeviceSpec
    after: int = 0
    until: int | None = None
    """The last seq that it had when it was told that it is out; None: it never was."""
    seqs: array[int] = field(default_factory=lambda: array("q"))
    times: array[float] = field(default_factory=lambda: array("d"))
    repeats: int = 0
    gaps: int = 0
    reconnects: int = 0
    removed_at: float | None = None
    """When the answer came that the owner has removed the member."""
    has_left: bool = False
    """The member has left by itself: nothing after ``until`` is owed."""


@dataclass(slots=True)
class Room:
    """One conversation of the run. ``frames`` holds what each seq said on the screens."""

    workload: RoomWorkload = field(default_factory=RoomWorkload)
    conversation_id: str = ""
    sendings: list[Sending] = field(default_factory=list)
    screens: list[Screen] = field(default_factory=list)
    frames: Frames = field(default_factory=Frames)
    frames_to_stranger: int = 0
    """Content frames that reached somebody who is no member."""
    refused: int = 0
    """How often that person was told so."""


@dataclass(slots=True)
class InjectedFault:
    """One fault, as it happened. ``healed`` is when what it did was undone; for a kill that is at once."""

    name: str
    began: float
    healed: float
    single: bool
    """Whether it hit one process only."""
    impossible: str = ""
    """Why it could not be made here."""
    recovery_s: float = 0.0


@dataclass(slots=True)
class History:
    """Everything."""

    run: str
    seed: int
    rooms: list[Room] = field(default_factory=list)
    faults: list[InjectedFault] = field(default_factory=list)
    quiet_s: float | None = None
    """How long after the last fault was healed everybody had everything; None: not within the time given."""
    waiting: list[str] = field(default_factory=list)
    """What was still waiting then."""
    regressions: list[str] = field(default_factory=list)
    """Statuses and watermarks that were seen to go back."""
    audit: list[str] = field(default_factory=list)
    """What an audit found at the end."""
    leaks: list[str] = field(default_factory=list)
    """Where a canary was found."""

    def counts(self) -> dict[str, int]:
        """Requests by their outcome, as their clients know it."""
        sendings = [s for room in self.rooms for s in room.sendings]
        return {
            "sent": len(sendings),
            "accepted": sum(s.accepted is not None for s in sendings),
            "unknown": sum(s.unknown for s in sendings),
            "refused": sum(any(t.refused for t in s.attempts) for s in sendings),
            "tries": sum(len(s.attempts) + len(s.mismatched) for s in sendings),
            "delivered": sum(len(screen.seqs) for room in self.rooms for screen in room.screens),
            "repeats": sum(screen.repeats for room in self.rooms for screen in room.screens),
            "reconnects": sum(screen.reconnects for room in self.rooms for screen in room.screens),
        }
