"""Middleware of every call: a deadline for its answer, a length for its body, and answers to its errors.

The server calls it directly, so a call passes one pair of ``receive`` and ``send`` between the server and its endpoint.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from domain.errors import MillraceError, OutcomeUnknown, TooLarge, Unavailable
from ingest.deadlines import Deadlines
from ingest.http.params import BODY_TOO_LARGE
from ingest.http.problems import answer_to, answer_to_bug, problem_of
from ingest.http.rate_fields import rate_fields
from schemas.fields import MAX_BODY

ANSWER_S = 2.5
_SAFE = ("GET", "HEAD", "OPTIONS")
_NO_SNIFFING = (b"x-content-type-options", b"nosniff")


@dataclass(slots=True, eq=False)
class _Call:
    """A call, which is answered by the application or at its deadline, whichever is first."""

    scope: Scope
    receive_: Receive
    send_: Send
    deadlines: Deadlines[_Call]
    reads: bool = False
    begun: bool = False
    late: asyncio.Task[None] | None = None

    async def receive(self) -> Message:
        """Return the next message of the client, which takes its own time."""
        self.reads = True
        try:
            return await self.receive_()
        finally:
            self.reads = False
            if not self.begun and self.late is None:
                self.deadlines.begin(self)

    async def send(self, message: Message) -> None:
        """Send a message of the application, with the fields that all answers have."""
        if self.late is not None:
            return
        if message["type"] == "http.response.start":
            self.begun = True
            self.deadlines.end(self)
            headers = [*message["headers"], *rate_fields(self.scope)]
            if _NO_SNIFFING not in headers:
                headers.append(_NO_SNIFFING)
            message = {**message, "headers": headers}
        await self.send_(message)

    def time_is_up(self) -> None:
        """Answer in place of the application, unless the client is awaited: then its next message begins a new time."""
        if not self.reads:
            self.late = asyncio.create_task(self._answer())

    async def _answer(self) -> None:
        kind = Unavailable if self.scope["method"] in _SAFE else OutcomeUnknown
        answer = problem_of(kind("the store does not answer; try again"))
        answer.raw_headers.extend(rate_fields(self.scope))
        await answer(self.scope, self.receive_, self.send_)


@dataclass(slots=True)
class CallMiddleware:
    """Answers every call of the application within, with a problem if need be.

    A body whose declared length is too long is refused before any of it is read; uploads, under the path ``unlimited``,
    have their own limit.

    A call that has not begun its answer in time is answered 503; the time that the client takes for its body is its
    own. The work is neither awaited nor cancelled: against a frozen server either would take longer still, and a
    cancelled statement costs its connection. It ends by the bounds of the store, at the latest when that is back, and
    what it says then goes nowhere.
    """

    app: ASGIApp
    unlimited: str
    seconds: float = ANSWER_S
    _deadlines: Deadlines[_Call] = field(init=False)

    def __post_init__(self) -> None:
        self._deadlines = Deadlines(self.seconds, _Call.time_is_up)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a call. Raises what is a fault of ours, also once it is answered, for the server to end the call."""
        call = _Call(scope, receive, send, self._deadlines)
        self._deadlines.begin(call)
        try:
            await self._answer(call)
        except Exception as exc:
            answer = answer_to_bug(scope, exc)
            if not call.begun:
                await answer(scope, call.receive, call.send)
            raise
        finally:
            self._deadlines.end(call)
            if call.late is not None:  # else the server would take the call for unanswered
                await asyncio.wait({call.late})

    async def _answer(self, call: _Call) -> None:
        scope = call.scope
        try:
            if not scope["path"].startswith(self.unlimited):
                _check_length(scope)
            await self.app(scope, call.receive, call.send)
        except (MillraceError, HTTPException, ClientDisconnect) as exc:
            if call.begun:
                raise RuntimeError("the answer has begun, and cannot tell of an error") from exc
            answer = await answer_to(scope, exc)
            await answer(scope, call.receive, call.send)
            exc.__traceback__ = None  # an error that many calls share would gather the traceback of each


def _check_length(scope: Scope) -> None:
    """Check the declared length of a body. Raises TooLarge."""
    for name, value in scope["headers"]:
        if name == b"content-length" and (not value.isdigit() or int(value) > MAX_BODY):
            raise TooLarge(BODY_TOO_LARGE)
