"""Errors, sorted by what the caller should do about them.

* MillraceError
    * Rejected: wrong input; a retry fails again. HTTP 4xx, dead letter, ``error`` frame.
        * Unauthenticated, Forbidden, NotFound, Conflict, MediaNotReady, MediaUnavailable, PreconditionFailed,
          RangeNotSatisfiable, TooLarge, UnsupportedType, UnsupportedVersion, Invalid (BadUpload), RequestTimeout,
          IdempotencyMismatch, RateLimited, QuotaExceeded
    * Unavailable: a system did not answer; a retry may work. HTTP 503, retry, reconnect.
        * AccessRefused: a certificate, a password or a right is not what the system wants.
        * InsufficientStorage: no space is left for uploads. HTTP 507.
        * OutcomeUnknown: the change may have been made; a retry with the same idempotency key tells.

``code`` is stable and the same over HTTP and WebSocket; ``str(error)`` says what to do and holds no content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar


class MillraceError(Exception):
    """Base of all errors of this project."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500


class Rejected(MillraceError):
    """The input is wrong and a retry would fail again."""

    code = "invalid"
    status = 422


class Unauthenticated(Rejected):
    """The token is missing or invalid; the answer is the same for all causes (RFC 8725).

    ``causes`` are for the log alone: the ``reason``, and what the token says of itself.
    """

    code = "unauthenticated"
    status = 401

    def __init__(self, detail: str, causes: Mapping[str, str]) -> None:
        super().__init__(detail)
        self.causes = causes


class Forbidden(Rejected):
    """The caller is known, and may not do this."""

    code = "forbidden"
    status = 403


class NotFound(Rejected):
    """The object does not exist, or the caller may not learn that it does."""

    code = "not_found"
    status = 404


class Conflict(Rejected):
    """The id is taken."""

    code = "conflict"
    status = 409


class MediaNotReady(Rejected):
    """The file is being inspected; a moment later it may be read."""

    code = "media_not_ready"
    status = 409


class MediaUnavailable(Rejected):
    """Nobody but its owner gets the file; the text says why."""

    code = "media_unavailable"
    status = 409


class PreconditionFailed(Rejected):
    """The file is not the version that the request names."""

    code = "precondition_failed"
    status = 412


class RangeNotSatisfiable(Rejected):
    """The range begins behind the end of the file, which has ``size`` bytes."""

    code = "range_not_satisfiable"
    status = 416

    def __init__(self, size: int) -> None:
        super().__init__("Range must begin before the end of the file")
        self.size = size


class TooLarge(Rejected):
    """The body is larger than allowed."""

    code = "payload_too_large"
    status = 413


class UnsupportedType(Rejected):
    """The content type is not one that this call takes."""

    code = "unsupported_media_type"
    status = 415


class Invalid(Rejected):
    """Fields are wrong; ``errors`` names each by its path."""

    def __init__(self, detail: str, errors: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(detail)
        self.errors = tuple(errors)


class BadUpload(Invalid):
    """Headers of an upload are wrong: tus has 400 for that."""

    status = 400


class UnsupportedVersion(Rejected):
    """The client speaks another version of tus."""

    status = 412


class RequestTimeout(Rejected):
    """The client did not send its body in time."""

    code = "request_timeout"
    status = 408


class IdempotencyMismatch(Rejected):
    """The idempotency key was used before with other content."""

    code = "idempotency_mismatch"


class RateLimited(Rejected):
    """Too many requests; ``retry_after_s`` says when to come back."""

    code = "rate_limited"
    status = 429

    def __init__(self, detail: str, retry_after_s: float) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class QuotaExceeded(Rejected):
    """The caller has used up a quota; ``retry_after_s`` says when some of it is free again, None that time alone
    does not help."""

    code = "quota_exceeded"
    status = 429

    def __init__(self, detail: str, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class Unavailable(MillraceError):
    """A system did not answer, or not in time. The cause, if any, is in ``__cause__``.

    ``driver`` is what the driver says of it, for the log of an operator: without values.
    """

    code = "unavailable"
    status = 503

    def __init__(self, detail: str, driver: str = "") -> None:
        super().__init__(detail)
        self.driver = driver


class AccessRefused(Unavailable):
    """A system refuses this process: its certificate, its password, or a right is missing. An operator must act."""


class InsufficientStorage(Unavailable):
    """The disk has no space left for this."""

    code = "insufficient_storage"
    status = 507


class OutcomeUnknown(Unavailable):
    """The connection was lost during a commit: the change may have been made, or not."""
