"""A conversation on a live connection: frames in, calls of its listener out."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from millrace_client.cursors import Cursor, CursorStore
from millrace_client.frames import ClientFrame, ErrorFrame, Frame, HistoryHidden, Joined, Left, Reset, SetTyping
from millrace_client.sync import Arrival, ConversationSync, JoinAnswer

_LATER = frozenset({"unavailable", "rate_limited"})
"""Codes after which the same join may be made again."""
_LATER_S = (0.2, 1.0)
_TYPING_S = 1.0


class ConnectionListener(Protocol):
    """Receives what is about no subscribed conversation. Calls come from the event loop and must not block."""

    def on_frame(self, frame: Frame, raw: bytes) -> None:
        """Take a frame: ``connected``, presence, a notification, a hint about another conversation, an error."""

    def on_disconnected(self, reason: str) -> None:
        """Note that the connection, or a try to open one, has ended; another try follows."""


class Listener:
    """Receives what arrives in one conversation; override what is of interest. Calls come from the event loop, one at
    a time, and must not block. An exception of a listener ends ``LiveConnection.run``, which raises it.
    """

    __slots__ = ()

    def on_start(self, seq: int) -> None:
        """Note that the conversation begins here: the first content frame comes after ``seq``."""

    def on_content(self, seq: int, raw: bytes) -> None:
        """Take the next content frame: a message, a change of members, media. Each seq comes once, in order; none is
        left out but what a ``HistoryHidden`` stands for.

        ``raw`` is the frame as it came; ``decode_frame`` makes a type of it.
        """

    def on_reset(self, seq: int) -> None:
        """Drop the content above ``seq``, if there is any: the server's store went back in time. What follows comes
        after ``seq``."""

    def on_frame(self, frame: Frame, raw: bytes) -> None:
        """Take another frame about this conversation: a status, typing, ``joined``, an error."""

    def on_ended(self, code: str, detail: str) -> None:
        """Note that nothing follows: the user was ``removed``, or the join was refused with this code.

        The join is repeated on the next connection, as the user may have become a member again.
        """


class Sender(Protocol):
    """The connection that a subscription is on."""

    def next_ref(self) -> int:
        """Return a ``ref`` that no other frame has."""

    async def send(self, frame: ClientFrame) -> None:
        """Send the frame; while the connection is away it is dropped."""

    def send_soon(self, frame: ClientFrame) -> None:
        """Send the frame from the event loop, on this connection and on no later one."""

    def call_later(self, after_s: float, call: Callable[[], None]) -> None:
        """Call after this time, if this connection still lives then."""


@dataclass(slots=True)
class Subscription:
    """Follows one conversation over all reconnects of its connection."""

    connection: Sender
    listener: Listener
    sync: ConversationSync
    cursors: CursorStore | None = None
    commits_itself: bool = True
    """Each frame counts as processed once the listener has returned; else ``commit`` says so."""
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by the first join."""
    _has_started: bool = False
    _committed: int | None = None
    _typing_at: float = 0.0

    @property
    def conversation_id(self) -> str:
        """The conversation's id."""
        return self.sync.conversation_id

    @property
    def cursor(self) -> int | None:
        """The last contiguous seq that arrived; None before the first join."""
        return self.sync.cursor

    async def acknowledge(self, *, read: bool = False) -> None:
        """Report how far this device has got, and with ``read`` that its user has read up to there."""
        for frame in self.sync.receipts(read=read):
            await self.connection.send(frame)

    async def send_typing(self, is_typing: bool = True) -> None:
        """Report that the user types, or has stopped to. May be called for each key: at most one frame a second."""
        now = time.monotonic()
        if not self.sync.in_step or (is_typing and now - self._typing_at < _TYPING_S):
            return
        self._typing_at = now if is_typing else 0.0
        await self.connection.send(SetTyping(conversation_id=self.conversation_id, is_typing=is_typing))

    @property
    def epoch(self) -> str | None:
        """The epoch of the cursor; None while the server has named none."""
        return self.sync.epoch

    def commit(self, cursor: Cursor) -> None:
        """Store that everything up to the cursor was processed."""
        self._committed = cursor.seq
        if self.cursors is not None:
            self.cursors.save(self.conversation_id, cursor)

    def commit_reset(self, cursor: Cursor) -> None:
        """Store that what is above the cursor was dropped."""
        stored = self.cursors.load(self.conversation_id) if self.cursors is not None else None
        if self.cursors is not None and stored is not None:
            self._committed = min(cursor.seq, stored.seq)
            self.cursors.reset(self.conversation_id, Cursor(self._committed, cursor.epoch))

    # called by the connection

    def join(self) -> None:
        """Join, or join again, from the cursor."""
        self.connection.send_soon(self.sync.join(self.connection.next_ref()))

    def content(self, seq: int, raw: bytes) -> None:
        """Take in a content frame."""
        arrival = self.sync.arrive(seq)
        if arrival is Arrival.NEXT:
            self._start(seq - 1)
            self.listener.on_content(seq, raw)
            if self.commits_itself:
                self.commit(Cursor(seq, self.epoch))
        elif arrival is Arrival.GAP:
            self.join()

    def frame(self, frame: Frame, raw: bytes) -> None:
        """Take in any other frame about this conversation, or one that answers its join."""
        match frame:
            case Joined(seq=seq, ref=ref):
                self._joined(self.sync.joined(seq, ref, frame.delivered_seq, frame.read_seq, frame.epoch))
            case HistoryHidden(start=start, seq=seq) if self.sync.skip(start, seq):
                self._start(seq)
                self.commit(Cursor(seq, self.epoch))
            case Reset(start=start, epoch=epoch):
                self.sync.reset(start, epoch)
                self.listener.on_reset(start)
                if self.commits_itself:
                    self.commit_reset(Cursor(start, epoch))
            case Left():
                self.sync.left()
            case ErrorFrame(code=code, ref=ref) if self.sync.is_join(ref) and code in _LATER:
                self._join_later((frame.retry_after_ms or 0) / 1000)
        self.listener.on_frame(frame, raw)
        match frame:
            case ErrorFrame(code=code, detail=detail, ref=ref) if self.sync.is_join(ref) and code not in _LATER:
                self.listener.on_ended(code, detail)
            case Left(reason=str() as reason):
                self.listener.on_ended(reason, "the user is no member any more")

    def _joined(self, answer: JoinAnswer) -> None:
        if answer is JoinAnswer.INCOMPLETE:
            self._join_later(0.0)
        elif answer is JoinAnswer.IN_STEP:
            for receipt in self.sync.repeated():
                self.connection.send_soon(receipt)
            self._start(self.sync.cursor or 0)
            if self._committed is not None and self._committed == self.sync.cursor:  # all of it is of this epoch now
                self.commit(Cursor(self._committed, self.epoch))
            self.ready.set()

    def _start(self, seq: int) -> None:
        if not self._has_started:
            self._has_started = True
            self.commit(Cursor(seq, self.epoch))  # so that a restart goes on here, even if nothing arrives before it
            self.listener.on_start(seq)

    def _join_later(self, at_least_s: float) -> None:
        self.connection.call_later(at_least_s + random.uniform(*_LATER_S), self.join)
