"""The handshake: which requests become sockets, and by whose token or ticket."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from math import ceil
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from domain.errors import MillraceError, RateLimited, Unauthenticated
from domain.identity import Identity, Revoked, TokenFault, Verify, refused
from domain.origins import Origin, may_connect
from domain.tickets import Tickets
from runtime.problems import problem_body
from schemas.fields import PATTERN_TEXTS
from schemas.ids import DEVICE, DEVICE_PATTERN, NO_DEVICE

PROTOCOL = Subprotocol("millrace.v1")
_RETRY_S = 1.0
_ONCE = ("Origin", "Authorization")


def refusal(request: Request, origins: frozenset[Origin]) -> Response | None:
    """Return the refusal of a request that may not become a socket, else None.

    Without a list of origins only pages of this host may connect.
    """
    if urlsplit(request.path).path != "/ws":
        return problem(HTTPStatus.NOT_FOUND, "not_found", "the only path here is /ws")
    if any(len(request.headers.get_all(name)) > 1 for name in _ONCE):
        return problem(HTTPStatus.BAD_REQUEST, "invalid", "send one Origin and one Authorization header")
    origin = origin_text(request)
    if origin is not None and not may_connect(origin, origins):
        return problem(HTTPStatus.FORBIDDEN, "forbidden", "pages of this origin may not connect")
    if not DEVICE.match(device_of(request)):
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", f"device must be {PATTERN_TEXTS[DEVICE_PATTERN]}")
    return None


def origin_text(request: Request) -> str | None:
    """Return the ``Origin`` header as it was sent; None without one."""
    return next(iter(request.headers.get_all("Origin")), None)


def device_of(request: Request | None) -> str:
    """Return the name of the client's device, so that the devices of a user are told apart."""
    query = urlsplit(request.path).query if request is not None else ""
    return parse_qs(query, keep_blank_values=True).get("device", [NO_DEVICE])[0]


def ending() -> Response:
    """Return the answer of a node that sends its sockets away."""
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", "this node is ending; connect again", _RETRY_S)


def subprotocol(_: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """Select the subprotocol to echo: our own name, never the one that holds the token."""
    return PROTOCOL if PROTOCOL in offered else None


@dataclass(frozen=True, slots=True)
class Identification:
    """Identifies the user of a handshake."""

    verify: Verify
    tickets: Tickets
    revoked: Revoked

    async def identity_of(self, request: Request | None) -> Identity:
        """Return the identity of the first credential: header, ticket, subprotocol, query.

        Raises Unauthenticated, Unavailable. Nothing is awaited after the question whether it was revoked.
        """
        if request is None:
            raise _without()
        credential = credential_of(request)
        if not credential.is_ticket:
            return await self.verify(credential.text)
        identity = await self.tickets.redeem(credential.text, origin_text(request))
        if identity is None:
            raise refused(TokenFault.TICKET)
        if self.revoked.holds(identity):
            raise refused(TokenFault.REVOKED, user_id=identity.user_id, jti=identity.jti)
        return identity


@dataclass(frozen=True, slots=True)
class Credential:
    """A token or a ticket."""

    text: str = field(repr=False)
    is_ticket: bool = False


def credential_of(request: Request) -> Credential:
    """Return the credential of a handshake. Raises Unauthenticated when it has none."""
    scheme, _, token = next(iter(request.headers.get_all("Authorization")), "").partition(" ")
    if scheme.lower() == "bearer" and token:
        return Credential(token.strip())
    query = parse_qs(urlsplit(request.path).query)
    if ticket := query.get("ticket"):
        return Credential(ticket[0], is_ticket=True)
    for offered in _protocols(request.headers):
        if offered.startswith("bearer."):
            return Credential(offered.removeprefix("bearer."))
    if given := query.get("token"):
        return Credential(given[0])
    raise _without()


def _without() -> Unauthenticated:
    return Unauthenticated(
        "send your token: Authorization: Bearer, subprotocol bearer.<token>, or ?token=; or a ?ticket= for it",
        {"reason": TokenFault.MISSING},
    )


def _protocols(headers: Headers) -> list[str]:
    return [part.strip() for line in headers.get_all("Sec-WebSocket-Protocol") for part in line.split(",")]


def refusing(error: MillraceError) -> Response:
    """Return the HTTP answer to an error of ours."""
    retry_s = error.retry_after_s if isinstance(error, RateLimited) else _RETRY_S
    return problem(HTTPStatus(error.status), error.code, str(error), retry_s)


def problem(status: HTTPStatus, code: str, detail: str, retry_s: float | None = None) -> Response:
    """Return a whole answer with a problem of RFC 9457; ``retry_s`` becomes ``Retry-After``."""
    body = problem_body(status, code, detail)
    headers = Headers({"Content-Type": "application/problem+json", "Content-Length": str(len(body))})
    headers["Connection"] = "close"
    if retry_s is not None:
        headers["Retry-After"] = str(max(1, ceil(retry_s)))
    return Response(status.value, status.phrase, headers, body)
