"""Observations from outside during a run: every request with its answer, every screen, every fault."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from audit.findings import Finding
from verify.edges import Edge, Measurement, Recovery
from verify.foreign_records import ForeignRecord, KnownMessage
from verify.frames import Frames
from verify.observations import Call, Files, PostedReceipt, Processes, Reads
from verify.sessions import Sessions
from verify.slowdown import Slowdown
from verify.workload import DeviceSpec, RoomWorkload, Send


@dataclass(frozen=True, slots=True)
class Attempt:
    """A request and its answer. Times are of one monotonic clock; ``status`` is None when there was no answer, and the
    outcome is unknown. ``defect`` says what is wrong with the form of an answer that came whole."""

    began: float
    ended: float
    status: int | None
    message_id: str = ""
    seq: int = 0
    code: str = ""
    outcome: str = ""
    """``unknown`` when the answer says so."""
    defect: str = ""

    @property
    def ok(self) -> bool:
        """The message was accepted."""
        return self.status in (200, 201)

    @property
    def replayed(self) -> bool:
        """The message was accepted by an earlier request with the same key."""
        return self.status == 200

    @property
    def refused(self) -> bool:
        """The message was not accepted, and will not be."""
        return self.status is not None and 400 <= self.status < 500 and self.status != 429

    @property
    def failed(self) -> bool:
        """The message is surely not stored by this request: another one may be accepted."""
        plain = self.status == 503 and self.code == "unavailable" and not self.outcome
        return plain or self.status == 429

    @property
    def unknown(self) -> bool:
        """The message may be stored, or not."""
        return not (self.ok or self.refused or self.failed)


@dataclass(slots=True)
class Sending:
    """Attempts to send a message. ``mismatched`` are those with other content under the same key."""

    send: Send
    attempts: list[Attempt] = field(default_factory=list)
    mismatched: list[Attempt] = field(default_factory=list)

    @property
    def accepted(self) -> Attempt | None:
        """The first attempt that was accepted."""
        return next((t for t in self.attempts if t.ok), None)

    @property
    def unknown(self) -> bool:
        """The client cannot know whether the message is stored."""
        return self.accepted is None and any(t.unknown for t in self.attempts)

    @property
    def failed(self) -> bool:
        """The message is surely not stored: each attempt was answered so, and was not repeated."""
        return bool(self.attempts) and all(t.failed for t in self.attempts)


@dataclass(frozen=True, slots=True)
class SentReceipt:
    """A receipt that a device has sent, and when. Read implies delivered."""

    at: float
    delivered_seq: int
    read_seq: int


@dataclass(slots=True)
class Stay:
    """Time in which a device may be connected: from before it connects until its connection is closed."""

    began: float
    ended: float = float("inf")


@dataclass(slots=True)
class Screen:
    """A device in a conversation: the seqs in the order in which they came on its screen, and when."""

    spec: DeviceSpec
    after: int = 0
    """The seq after which the server has begun."""
    until: int | None = None
    """The device's cursor when it heard that its user is no member, or when it went away; None while it has not."""
    seqs: array[int] = field(default_factory=lambda: array("q"))
    times: array[float] = field(default_factory=lambda: array("d"))
    repeats: int = 0
    gaps: int = 0
    reconnects: int = 0
    removed_at: float | None = None
    """Time of the answer to the owner's removal of the member."""
    added_again_at: float | None = None
    """Time before the owner made the member one again."""
    has_left: bool = False
    """The member has left, or the device has gone away: nothing after ``until`` is owed."""
    asked: int | None = 0
    """The seq after which the device has asked to begin; None for from now on."""
    asked_at: float | None = None
    """Time before the device asked to begin."""
    began_at: float | None = None
    """Time of the answer, which names ``after``; None before it."""
    receipts: list[SentReceipt] = field(default_factory=list)
    """What the device has said that it has, or that its user has read."""
    joined_at: float | None = None
    """Time of the last answer to a join, after which the device may repeat its receipts."""
    stays: list[Stay] = field(default_factory=list)
    """Times in which a phone may be connected."""

    def reset(self, seq: int) -> None:
        """Take what is above the seq off the screen."""
        while self.seqs and self.seqs[-1] > seq:
            self.seqs.pop()
            self.times.pop()
        self.after = min(self.after, seq)

    @property
    def told(self) -> SentReceipt | None:
        """The watermarks that the store must have of the device; None for none.

        The last words of a device that has gone away may be lost with its gateway, and nobody repeats them: those
        count that it had the occasion to repeat.
        """
        until = (self.joined_at or 0.0) if self.has_left else float("inf")
        sent = [receipt for receipt in self.receipts if receipt.at < until]
        if not sent:
            return None
        reads, delivered = max(r.read_seq for r in sent), max(r.delivered_seq for r in sent)
        return SentReceipt(sent[-1].at, max(delivered, reads), reads)


@dataclass(slots=True)
class Room:
    """A conversation of the run. ``frames`` holds the content frame of each seq."""

    workload: RoomWorkload = field(default_factory=RoomWorkload)
    conversation_id: str = ""
    sendings: list[Sending] = field(default_factory=list)
    screens: list[Screen] = field(default_factory=list)
    frames: Frames = field(default_factory=Frames)
    frames_to_stranger: int = 0
    """Number of content frames that reached the stranger."""
    refused: int = 0
    """Number of joins of the stranger that were refused."""
    receipts: list[PostedReceipt] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class InboxEntry:
    """A notification as its recipient reads it over HTTP."""

    notification_id: str
    conversation_id: str
    message_id: str


@dataclass(slots=True)
class InjectedFault:
    """A fault as it was injected. ``healed`` is when it was undone; a kill heals at once."""

    name: str
    began: float
    healed: float
    single: bool
    """The fault hit one process only."""
    impossible: str = ""
    """Reason why it could not be injected here."""
    targets: tuple[str, ...] = ()
    """Roles, or topics, that it breaks."""
    evidence: str = ""
    """How it is known that it took effect; empty when that is not known."""
    recover_s: float = 0.0
    """Seconds after its end in which everything flows again, for a fault of more than one process."""
    recoveries: dict[Edge, Recovery] = field(default_factory=dict)
    """Lateness on each edge where messages were late because of it, or may have been."""

    @property
    def took_effect(self) -> bool:
        """The fault was injected, and something shows that it took effect."""
        return not self.impossible and bool(self.evidence)

    @property
    def felt_until(self) -> float:
        """Time until which messages were late because of it."""
        return self.healed + max((recovery.after_end_s for recovery in self.recoveries.values()), default=0.0)


@dataclass(slots=True)
class History:
    """Observations of a whole run."""

    run: str
    seed: int
    rooms: list[Room] = field(default_factory=list)
    probed: list[str] = field(default_factory=list)
    """Conversations of the probe."""
    faults: list[InjectedFault] = field(default_factory=list)
    measurements: dict[Edge, list[Measurement]] = field(default_factory=lambda: {edge: [] for edge in Edge})
    """Times of the probe's messages to each edge."""
    observed_until: float = float("inf")
    """End of these measurements."""
    slowdown: Slowdown = field(default_factory=Slowdown)
    """Of this process meanwhile, since the machine was busy."""
    sessions: Sessions = field(default_factory=Sessions)
    inboxes: Mapping[str, Sequence[InboxEntry]] = field(default_factory=dict)
    """The notifications of users who were away, as each has read its own at the end."""
    rested_at: float = float("inf")
    """Time when all was at rest; connections that ended later were open at the end."""
    quiet_s: float | None = None
    """Seconds from the last healed fault until everybody had everything; None when the time was up before."""
    waiting: list[str] = field(default_factory=list)
    """Work that was still waiting then."""
    regressions: list[str] = field(default_factory=list)
    """Statuses and watermarks that went back."""
    audit: list[Finding] = field(default_factory=list)
    """Findings of an audit at the end."""
    leaks: list[str] = field(default_factory=list)
    """Logs that hold a secret or a content."""
    foreign: list[ForeignRecord] = field(default_factory=list)
    """Records that faults wrote, or may have written, to topics."""
    written: list[ForeignRecord] = field(default_factory=list)
    """Foreign records that the broker has acknowledged."""
    calls: list[Call] = field(default_factory=list)
    """Requests of readers and uploaders."""
    reads: Reads = field(default_factory=Reads)
    files: Files = field(default_factory=Files)
    processes: Processes = field(default_factory=Processes)

    @property
    def began(self) -> float:
        """Time of the first request."""
        sent = (t.began for room in self.rooms for s in room.sendings for t in s.attempts[:1])
        return min([*sent, *(call.began for call in self.calls)], default=0.0)

    def accepted(self) -> list[KnownMessage]:
        """Return the messages that the store has, as their senders know."""
        return [
            KnownMessage(
                conversation_id=room.conversation_id,
                message_id=sending.accepted.message_id,
                seq=sending.accepted.seq,
                sender_id=sending.send.sender,
            )
            for room in self.rooms
            for sending in room.sendings
            if sending.accepted is not None
        ]

    def counts(self) -> dict[str, int]:
        """Return the number of requests by outcome, as clients know it."""
        sendings = [s for room in self.rooms for s in room.sendings]
        return {
            "sent": len(sendings),
            "accepted": sum(s.accepted is not None for s in sendings),
            "unknown": sum(s.unknown for s in sendings),
            "failed": sum(s.failed for s in sendings),
            "refused": sum(any(t.refused for t in s.attempts) for s in sendings),
            "tries": sum(len(s.attempts) + len(s.mismatched) for s in sendings),
            "delivered": sum(len(screen.seqs) for room in self.rooms for screen in room.screens),
            "repeats": sum(screen.repeats for room in self.rooms for screen in room.screens),
            "reconnects": sum(screen.reconnects for room in self.rooms for screen in room.screens),
        }
