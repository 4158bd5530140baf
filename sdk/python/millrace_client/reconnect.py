"""The wait before a lost connection is opened again: with jitter, never shorter than the server asks for. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from millrace_client.backoff import Backoff
from millrace_client.frames import Connected, ErrorFrame, Frame, Reconnect


@dataclass(slots=True)
class ReconnectTimer:
    """Learns from frames. Times are seconds of one monotonic clock."""

    backoff: Backoff = field(default_factory=Backoff)
    _retry_after_s: float = 0.0
    _return_at: float | None = None

    def received(self, frame: Frame, now: float) -> None:
        """Take in a frame: a good one ends the backoff, ``reconnect`` and ``rate_limited`` say when to come back."""
        match frame:
            case Reconnect(after_ms=after_ms):
                self._return_at = now + after_ms / 1000
            case ErrorFrame(ref=None, retry_after_ms=int() as retry_after_ms):
                self._retry_after_s = retry_after_ms / 1000
        if not isinstance(frame, Connected | ErrorFrame):
            self.made_progress()

    def made_progress(self) -> None:
        """Begin the backoff again: the server does its work."""
        self.backoff.reset()

    def wait_s(self, now: float, retry_after_s: float = 0.0) -> float:
        """Return how long to wait, from now. ``retry_after_s`` is what a refused handshake has asked for.

        The time of a ``reconnect`` frame gets no jitter: the server has spread it over all its clients. A connection
        that is lost before that time is opened again like any other.
        """
        asked_s = max(retry_after_s, self._retry_after_s)
        self._retry_after_s = 0.0
        if self._return_at is None:
            return self.backoff.next(asked_s)
        left_s, self._return_at = max(0.0, self._return_at - now), None
        return min(left_s, self.backoff.next(asked_s))
