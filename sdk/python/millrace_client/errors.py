"""Errors of the client library, sorted by what the caller does about them.

* MillraceClientError
    * Refused: the server has answered no; the same request fails again.
        * Unauthenticated, Forbidden, NotFound, Conflict, Invalid, IdempotencyMismatch, RateLimited
    * Unavailable: no answer came in the time given. The request may have been carried out.
    * MembershipEnded: a conversation gives nothing any more, because the user is not, or no longer, a member.
    * ProtocolError: the other side does not speak the protocol of docs/wire.md.

No error text holds a token or the content of a message.
"""

from __future__ import annotations

from collections.abc import Sequence

from millrace_client.types import FieldError


class MillraceClientError(Exception):
    """Base of all errors that the library raises on purpose."""


class Refused(MillraceClientError):
    """The server has refused the request. ``code`` is stable; ``errors`` names the fields that are wrong."""

    def __init__(self, status: int, code: str, detail: str, errors: Sequence[FieldError] = ()) -> None:
        fields = "".join(f"; {error.path}: {error.message}" for error in errors)
        super().__init__(f"refused with {status} {code}: {detail}{fields}")
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)


class Unauthenticated(Refused):
    """The token is missing or malformed, has ended, or was revoked."""


class Forbidden(Refused):
    """The user may not do this."""


class NotFound(Refused):
    """The thing does not exist, or the user may not know of it."""


class Conflict(Refused):
    """The id is taken."""


class Invalid(Refused):
    """Fields of the request are wrong."""


class IdempotencyMismatch(Refused):
    """The client message id was used before, with other content."""


class RateLimited(Refused):
    """Too many requests. ``retry_after_s`` is the server's ``Retry-After``."""

    def __init__(self, status: int, code: str, detail: str, retry_after_s: float) -> None:
        super().__init__(status, code, detail)
        self.retry_after_s = retry_after_s


class Unavailable(MillraceClientError):
    """The server does not answer. A repeat with the same ids tells whether the request was carried out."""


class MembershipEnded(MillraceClientError):
    """The conversation cannot be joined, or the user was removed from it."""

    def __init__(self, conversation_id: str, code: str, detail: str) -> None:
        super().__init__(f"conversation {conversation_id} was refused with {code}: {detail}")
        self.conversation_id = conversation_id
        self.code = code
        self.detail = detail


class ProtocolError(MillraceClientError):
    """A frame or an answer is not of this protocol."""


_BY_CODE: dict[str, type[Refused]] = {
    "unauthenticated": Unauthenticated,
    "forbidden": Forbidden,
    "not_found": NotFound,
    "conflict": Conflict,
    "invalid": Invalid,
    "idempotency_mismatch": IdempotencyMismatch,
}
_CODE_BY_STATUS = {401: "unauthenticated", 403: "forbidden", 404: "not_found", 409: "conflict", 422: "invalid"}


def refusal(
    status: int, code: str, detail: str, *, errors: Sequence[FieldError] = (), retry_after_s: float = 0.0
) -> Refused:
    """Return the error for an answer; without a ``code``, as from a proxy, the status decides."""
    code = code or _CODE_BY_STATUS.get(status, "")
    if code == "rate_limited" or status == 429:
        return RateLimited(status, code or "rate_limited", detail, retry_after_s)
    return _BY_CODE.get(code, Refused)(status, code, detail, errors)
