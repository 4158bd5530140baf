"""Connections of users, and the frames on them that are not the content of a conversation."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field

from millrace_client import Frame, NewMessage, NotificationAdded, StatusUpdated
from millrace_client.frames import Connected, ContentFrame


@dataclass(slots=True)
class Session:
    """A connection of a user, from its ``connected`` frame to its end. Times are of the monotonic clock.

    ``follows``: the conversation that it joins; empty for none.
    """

    user: str
    device: str
    follows: str
    began: float
    ended: float = float("inf")
    statuses: list[StatusUpdated] = field(default_factory=list)
    """The ``message_status`` frames of all conversations, in the order in which they came."""
    notifications: list[tuple[float, NotificationAdded]] = field(default_factory=list)
    """The ``notification`` frames, and when each came."""
    heard: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    """Times and seqs of messages (0 for other frames) about each conversation that the user is removed from, other than
    the content that it follows."""
    hints: dict[str, int] = field(default_factory=dict)
    """The highest seq of a message in each conversation that this connection follows not."""


@dataclass(slots=True)
class Sessions:
    """The connections of a run. Equal frames are kept once: each watermark goes to many sockets."""

    all: list[Session] = field(default_factory=list)
    _statuses: dict[bytes, StatusUpdated] = field(default_factory=dict)

    def shared(self, frame: StatusUpdated, raw: bytes) -> StatusUpdated:
        """Return the first frame with these bytes."""
        return self._statuses.setdefault(raw, frame)


@dataclass(slots=True)
class SessionRecorder:
    """Writes down the connections of one device: a listener of its live connection.

    ``follows`` as in Session; ``removed_from``: conversations that the user is removed from during the run.
    """

    user: str
    device: str
    sessions: Sessions
    follows: str = ""
    removed_from: Collection[str] = ()
    _open: Session | None = None

    def on_frame(self, frame: Frame, raw: bytes) -> None:
        """Take a frame that is not the content of a conversation that the connection follows."""
        match frame:
            case Connected():
                self.on_disconnected("")
                self._open = Session(self.user, self.device, self.follows, time.monotonic())
                self.sessions.all.append(self._open)
                return
            case _ if self._open is None:
                return
            case StatusUpdated():
                self._open.statuses.append(self.sessions.shared(frame, raw))
            case NotificationAdded():
                self._open.notifications.append((time.monotonic(), frame))
            case _ if isinstance(frame, ContentFrame):
                self._open.hints[frame.conversation_id] = max(frame.seq, self._open.hints.get(frame.conversation_id, 0))
        about = getattr(frame, "conversation_id", "")
        if about in self.removed_from:
            seq = frame.seq if isinstance(frame, NewMessage | NotificationAdded) else 0
            self._open.heard.setdefault(about, []).append((time.monotonic(), seq))

    def on_disconnected(self, reason: str) -> None:
        """End the connection."""
        if self._open is not None:
            self._open.ended = time.monotonic()
            self._open = None
