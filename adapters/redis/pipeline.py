"""Pipelined connection for requests: all commands of one turn of the loop go out in one write; replies come in order.

So a storm of small pipelines costs what one large pipeline does. The client library takes a connection for each
pipeline, and five times the CPU (docs/performance.md).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from adapters.redis.connection import CONNECT_S, RedisConnection, credentials, open_connection

Arguments: TypeAlias = Sequence[Any]
"""Command: its name and its arguments."""

_REPLY_S = 2.0
_PROTOCOL = "3"


@dataclass(slots=True)
class _Request:
    """Commands that wait for their replies."""

    commands: Sequence[Arguments]
    future: asyncio.Future[list[Any]]
    deadline: float
    replies: list[Any] = field(default_factory=list)


class PipelinedConnection:
    """Connection for requests. ``parse`` turns (command name, raw reply) into the client library's result."""

    def __init__(self, parse: Callable[[Any, Any], Any]) -> None:
        self.connection: RedisConnection
        self._parse = parse
        self._waiting: deque[_Request] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def execute(self, commands: Sequence[Arguments]) -> list[Any]:
        """Return the replies, of which some may be errors. Raises ConnectionError; TimeoutError after two seconds."""
        if not commands:
            return []
        loop = asyncio.get_running_loop()
        request = _Request(commands, loop.create_future(), loop.time() + _REPLY_S)
        self._waiting.append(request)
        self.connection.send(*commands)
        if self._timer is None:
            self._timer = loop.call_at(request.deadline, self._check_deadline, loop)
        return await request.future

    def _check_deadline(self, loop: asyncio.AbstractEventLoop) -> None:
        """End the connection when the oldest request is late. One timer serves all, since deadlines ascend."""
        self._timer = None
        if not self._waiting:
            return
        oldest = self._waiting[0]
        if loop.time() < oldest.deadline:
            self._timer = loop.call_at(oldest.deadline, self._check_deadline, loop)
            return
        if not oldest.future.done():
            oldest.future.set_exception(TimeoutError("the server does not answer"))
        self.connection.close()  # replies come in order, so everything behind it would be late, too

    def on_reply(self, reply: Any) -> None:
        """Give the next reply to the oldest request."""
        request = self._waiting[0]
        commands, replies = request.commands, request.replies
        name = commands[len(replies)][0]
        replies.append(reply if isinstance(reply, ResponseError) else self._parse(name, reply))
        if len(replies) == len(commands):
            self._waiting.popleft()
            if not request.future.done():
                request.future.set_result(replies)

    def on_lost(self) -> None:
        """Fail all requests that wait: no reply will come any more."""
        while self._waiting:
            request = self._waiting.popleft()
            if not request.future.done():
                request.future.set_exception(ConnectionError("the connection has ended"))


async def open_pipelined(client: Redis) -> PipelinedConnection:
    """Connect and log in with the client's parameters. Raises what the client would."""
    callbacks = client.response_callbacks
    user, password, database = credentials(client)
    pipelined = PipelinedConnection(lambda name, reply: callbacks[name](reply) if name in callbacks else reply)
    pipelined.connection = await open_connection(client, pipelined.on_reply, pipelined.on_lost)
    hello = ["HELLO", _PROTOCOL, *(["AUTH", user or "default", password] if password else [])]
    async with asyncio.timeout(CONNECT_S):
        replies = await pipelined.execute([hello, ["SELECT", database]] if database else [hello])
    for reply in replies:
        if isinstance(reply, ResponseError):
            pipelined.connection.close()
            raise reply
    return pipelined
