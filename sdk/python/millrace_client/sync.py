"""Rules for following a conversation: cursor, duplicates, gaps, receipts. No I/O.

A server sends the content of a joined conversation in seq order. Frames up to the cursor are repeats and are dropped;
the next one moves the cursor; one beyond it is a gap, after which the conversation is joined again from the cursor.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from millrace_client.frames import Ack, JoinConversation, Read, Ref


class Arrival(Enum):
    """Place of a content frame relative to the cursor."""

    NEXT = auto()
    """The cursor has moved to it: show it."""
    REPEAT = auto()
    """The frame was shown before: drop it."""
    GAP = auto()
    """Frames before it are missing: drop it, and join again."""
    HINT = auto()
    """The conversation is not joined, or not yet; the replay of a join brings the frame again: drop it."""


class JoinAnswer(Enum):
    """Meaning of a ``joined`` frame."""

    IN_STEP = auto()
    """Everything up to the head was shown."""
    INCOMPLETE = auto()
    """Frames of the replay are missing: join again."""
    STALE = auto()
    """The frame answers an earlier join: ignore it."""


@dataclass(slots=True)
class ConversationSync:
    """``cursor`` is the last contiguous seq; None until the first join says where the conversation stands."""

    conversation_id: str
    cursor: int | None = None
    epoch: str | None = None
    """The epoch of the cursor, as the server has named it; None while it has not."""
    in_step: bool = False
    """The replay of the last join is complete, and nothing was missing since."""
    repeats: int = 0
    gaps: int = 0
    """Gaps on a connection that was in step, and replays that were incomplete. A server never sends such."""
    acknowledged: int = 0
    """The highest seq that was acknowledged, on whichever connection."""
    read: int = 0
    """The highest seq that was reported as read, on whichever connection."""
    has_left: bool = False
    """The membership has ended, and no join was sent since."""
    _join_ref: Ref = None
    _reported_read: int = 0
    _reported_ack: int = 0

    def connected(self) -> None:
        """Begin a new connection. Receipts of the one before may have died with its node: ``joined`` tells."""
        self._reported_read = self._reported_ack = 0
        self.disconnected()

    def disconnected(self) -> None:
        """End the connection: nothing is joined any more."""
        self.in_step, self._join_ref = False, None

    def left(self) -> None:
        """End the membership. Hints may still come for two seconds: the server reads the members now and then."""
        self.has_left = True
        self.disconnected()

    def join(self, ref: int) -> JoinConversation:
        """Return the join to send. It ends the one before, whose answer says nothing any more."""
        self.in_step, self.has_left, self._join_ref = False, False, ref
        epoch = None if self.cursor is None else self.epoch
        return JoinConversation(id=self.conversation_id, after=self.cursor, epoch=epoch, ref=ref)

    def is_join(self, ref: Ref) -> bool:
        """Tell whether ``ref`` is that of the last join."""
        return ref is not None and ref == self._join_ref

    def joined(self, seq: int, ref: Ref, delivered: int = 0, read: int = 0, epoch: str | None = None) -> JoinAnswer:
        """Take in a ``joined`` frame: everything up to ``seq`` was sent, and these receipts are stored."""
        if not self.is_join(ref):
            return JoinAnswer.STALE
        self._reported_ack = max(self._reported_ack, delivered)
        self._reported_read = max(self._reported_read, read)
        if self.cursor is None:
            self.cursor = seq
        if seq > self.cursor:
            self.gaps += 1
            return JoinAnswer.INCOMPLETE
        self.in_step, self.epoch = True, epoch
        return JoinAnswer.IN_STEP

    def arrive(self, seq: int) -> Arrival:
        """Take in a content frame."""
        if self.cursor is None or self.has_left:
            return Arrival.HINT
        if seq <= self.cursor:
            self.repeats += 1
            return Arrival.REPEAT
        if seq == self.cursor + 1:
            self.cursor = seq
            return Arrival.NEXT
        if not self.in_step:
            return Arrival.HINT
        self.gaps += 1
        return Arrival.GAP

    def skip(self, start: int, seq: int) -> bool:
        """Take in a frame that stands for everything after ``start`` up to ``seq``; return whether the cursor moved."""
        if self.cursor is None or not start <= self.cursor < seq:
            return False
        self.cursor = seq
        return True

    def reset(self, start: int, epoch: str) -> None:
        """Take in a ``reset`` frame: what is above ``start`` is no more, and what follows replaces it."""
        self.epoch = epoch
        if self.cursor is not None:
            self.cursor = min(self.cursor, start)
        self.acknowledged, self.read = min(self.acknowledged, start), min(self.read, start)
        self._reported_ack, self._reported_read = min(self._reported_ack, start), min(self._reported_read, start)

    def receipts(self, *, read: bool = False) -> list[Ack | Read]:
        """Return the frames that say how far this device, and with ``read`` its user, has got.

        None are due before the conversation is in step, where the server would refuse them, nor twice on one
        connection, nor what the server has stored.
        """
        if self.cursor is None or not self.in_step:
            return []
        if read:
            self.read = self.cursor
        self.acknowledged = self.cursor
        return self.repeated()

    def repeated(self) -> list[Ack | Read]:
        """Return the frames for receipts of earlier connections that the server has not stored."""
        due: list[Ack | Read] = []
        if self._reported_read < self.read:
            self._reported_read = self.read
            self._reported_ack = max(self._reported_ack, self.read)
            due.append(Read(conversation_id=self.conversation_id, seq=self.read))
        if self._reported_ack < self.acknowledged:
            self._reported_ack = self.acknowledged
            due.append(Ack(conversation_id=self.conversation_id, seq=self.acknowledged))
        return due
