"""Log of security events: who did what, from where, and how it ended.

The lines carry ``stream: security``, so that a collector can keep them apart and longer. Anybody can make refusals, so
their number is bounded; how many were left out is said. No token, ticket, message body or title is ever in a line.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

import structlog

from domain.errors import MillraceError, Unauthenticated

_log = structlog.get_logger()

_BURST, _PER_S = 50.0, 5.0
"""Lines about refusals: so many at once, and so many a second in the long run, for each process."""


class SecurityEvent(StrEnum):
    """Kind of a security event."""

    TOKEN_REFUSED = "token_refused"
    PERMISSION_REFUSED = "permission_refused"
    LIMIT_REACHED = "limit_reached"
    MEMBER_ADDED = "member_added"
    MEMBER_INVITED = "member_invited"
    MEMBER_REMOVED = "member_removed"
    CONNECTIONS_REVOKED = "connections_revoked"
    CONNECTION_CLOSED = "connection_closed"
    NODE_DRAINED = "node_drained"


_EVENTS = {
    "unauthenticated": SecurityEvent.TOKEN_REFUSED,
    "forbidden": SecurityEvent.PERMISSION_REFUSED,
    "rate_limited": SecurityEvent.LIMIT_REACHED,
}


@dataclass(slots=True)
class SecurityLog:
    """Writes security events. ``clock`` gives seconds of a steady clock."""

    clock: Callable[[], float] = time.monotonic
    _tokens: float = _BURST
    _at: float = field(init=False)
    _left_out: int = 0

    def __post_init__(self) -> None:
        self._at = self.clock()

    def refusal(self, error: MillraceError, **details: str | int | None) -> None:
        """Note an error that refuses a token, a right or a budget; others are no security events."""
        event = _EVENTS.get(error.code)
        if event is not None:
            causes = error.causes if isinstance(error, Unauthenticated) else {}
            self.refused(event, error.code, **{**details, **causes})

    def refused(self, event: SecurityEvent, code: str, **details: str | int | None) -> None:
        """Note something that was refused with this code, unless there are too many of such notes."""
        now = self.clock()
        self._tokens = min(_BURST, self._tokens + (now - self._at) * _PER_S)
        self._at = now
        if self._tokens < 1:
            self._left_out += 1
            return
        self._tokens -= 1
        left_out, self._left_out = self._left_out, 0
        _log.warning("security_event", **_line(event, "refused", details), code=code, left_out=left_out)

    def done(self, event: SecurityEvent, **details: str | int | None) -> None:
        """Note something that was done."""
        _log.info("security_event", **_line(event, "done", details))


def _line(event: SecurityEvent, result: str, details: dict[str, str | int | None]) -> dict[str, str | int]:
    present = {name: value for name, value in details.items() if value is not None}
    return {"stream": "security", "kind": event.value, "result": result, **present}


security_log = SecurityLog()
"""The log of this process."""
