"""A deadline for every answer: a store that hangs is a 503 within seconds, never a hang."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from domain.errors import Unavailable
from ingest.http.problems import problem

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
    """One call, which is answered by the application or by the clock, whichever is first."""

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
        more = {} if self.scope["method"] in _SAFE else {"outcome": "unknown"}
        answer = problem(
            Unavailable.status,
            Unavailable.code,
            "the store did not answer in time; try again",
            headers={"retry-after": "1"},
            **more,
        )
        await answer(self.scope, self.receive_, self.send_)
