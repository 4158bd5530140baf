"""A connection for questions. All that are asked in one turn of the loop go out in one write; answers come in order.

So a storm of small pipelines costs what one large one does. The client library's own takes a connection for each, and
five times the CPU (docs/performance.md).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from adapters.redis.connection import CONNECT_S, Line, credentials, open_line

Said: TypeAlias = Sequence[Any]
"""The words of one command."""

_ANSWER_S = 2.0
_PROTOCOL = "3"


@dataclass(slots=True)
class _Question:
    commands: Sequence[Said]
    future: asyncio.Future[list[Any]]
    until: float
    answers: list[Any] = field(default_factory=list)


class Talk:
    """One connection. ``read``: how the client library reads the answer of a command."""

    def __init__(self, read: Callable[[Any, Any], Any]) -> None:
        self.line: Line
        self._read = read
        self._waiting: deque[_Question] = deque()
        self._look: asyncio.TimerHandle | None = None

    async def ask(self, commands: Sequence[Said]) -> list[Any]:
        """The answers, of which some may be errors. Raises ConnectionError, or TimeoutError after two seconds."""
        if not commands:
            return []
        loop = asyncio.get_running_loop()
        question = _Question(commands, loop.create_future(), loop.time() + _ANSWER_S)
        self._waiting.append(question)
        self.line.send(*commands)
        if self._look is None:
            self._look = loop.call_at(question.until, self._late, loop)
        return await question.future

    def _late(self, loop: asyncio.AbstractEventLoop) -> None:
        """One timer for all: it looks at the oldest question only."""
        self._look = None
        if not self._waiting:
            return
        oldest = self._waiting[0]
        if loop.time() < oldest.until:
            self._look = loop.call_at(oldest.until, self._late, loop)
            return
        if not oldest.future.done():
            oldest.future.set_exception(TimeoutError("the server does not answer"))
        self.line.close()  # everything behind it would be late, too

    def heard(self, answer: Any) -> None:
        """The next answer has come."""
        question = self._waiting[0]
        commands, answers = question.commands, question.answers
        name = commands[len(answers)][0]
        answers.append(answer if isinstance(answer, ResponseError) else self._read(name, answer))
        if len(answers) == len(commands):
            self._waiting.popleft()
            if not question.future.done():
                question.future.set_result(answers)

    def lost(self) -> None:
        """No answer will come any more."""
        while self._waiting:
            question = self._waiting.popleft()
            if not question.future.done():
                question.future.set_exception(ConnectionError("the connection has ended"))


async def open_talk(client: Redis) -> Talk:
    """Connect as the client would. Raises what it would."""
    callbacks = client.response_callbacks
    talk = Talk(lambda name, answer: callbacks[name](answer) if name in callbacks else answer)
    talk.line = await open_line(client, talk.heard, talk.lost)
    user, password, database = credentials(client)
    hello = ["HELLO", _PROTOCOL, *(["AUTH", user or "default", password] if password else [])]
    async with asyncio.timeout(CONNECT_S):
        answers = await talk.ask([hello, ["SELECT", database]] if database else [hello])
    for answer in answers:
        if isinstance(answer, ResponseError):
            talk.line.close()
            raise answer
    return talk
