"""Bounds of every call: a deadline for its answer, and a length for its body."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from domain.errors import OutcomeUnknown, TooLarge, Unavailable
from ingest.http.params import BODY_TOO_LARGE
from ingest.http.problems import problem_of
from schemas.fields import MAX_BODY

ANSWER_S = 2.5
_SAFE = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True, slots=True)
class Deadline:
    """Answers 503 when a call has not begun its answer in time; the time that the client takes for its body is its own.

    The work is neither awaited nor cancelled: against a frozen server either would take longer still, and a cancelled
    statement costs its connection. It ends by the bounds of the store, at the latest when that is back, and what it
    says then goes nowhere.
    """

    app: ASGIApp
    seconds: float = ANSWER_S

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        call = _Call(scope, receive, send, self.seconds)
        call.start_clock()
        try:
            await self.app(scope, call.receive, call.send)
        finally:
            call.stop_clock()
            if call.late is not None:  # else the server would take the call for unanswered
                await asyncio.wait({call.late})


@dataclass(slots=True, eq=False)
class _Call:
    """A call, which is answered by the application or by the clock, whichever is first."""

    scope: Scope
    receive_: Receive
    send_: Send
    seconds: float
    clock: asyncio.TimerHandle | None = None
    begun: bool = False
    late: asyncio.Task[None] | None = None

    def start_clock(self) -> None:
        if not self.begun:
            self.clock = asyncio.get_running_loop().call_later(self.seconds, self._too_late)

    def stop_clock(self) -> None:
        if self.clock is not None:
            self.clock.cancel()

    async def receive(self) -> Message:
        self.stop_clock()
        try:
            return await self.receive_()
        finally:
            self.start_clock()

    async def send(self, message: Message) -> None:
        if self.late is not None:
            return
        self.begun = True
        self.stop_clock()
        await self.send_(message)

    def _too_late(self) -> None:
        self.late = asyncio.create_task(self._answer())

    async def _answer(self) -> None:
        kind = Unavailable if self.scope["method"] in _SAFE else OutcomeUnknown
        answer = problem_of(kind("the store does not answer; try again"))
        await answer(self.scope, self.receive_, self.send_)


@dataclass(frozen=True, slots=True)
class DeclaredLength:
    """Refuses a body whose declared length is too long before any of it is read. Uploads have their own limit."""

    app: ASGIApp
    unlimited: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope["path"].startswith(self.unlimited):
            length = dict(scope["headers"]).get(b"content-length", b"0")
            if not length.isdigit() or int(length) > MAX_BODY:
                await problem_of(TooLarge(BODY_TOO_LARGE))(scope, receive, send)
                return
        await self.app(scope, receive, _without_sniffing(send))


def _without_sniffing(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).setdefault("x-content-type-options", "nosniff")
        await send(message)

    return sending
