"""Requests of operators to this node: they come over the node's channel, and are answered under a key of the asker.

On a Redis Cluster every server passes a node's channel on, so the same request arrives several times: a request that
was answered is not carried out again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
import structlog

from domain.errors import Conflict, MillraceError, NotFound, Unavailable
from gateway.connection import Connection, Connections
from gateway.session import BY_OPERATOR
from runtime.security_log import SecurityEvent, security_log
from runtime.tasks import Tasks
from schemas.clock import wire_seconds
from schemas.control import (
    CloseConnection,
    ConnectionClosed,
    ConnectionShown,
    ConnectionState,
    ControlAnswer,
    ControlRequest,
    DrainNode,
    JoinedConversation,
    NodeDraining,
    RequestRefused,
    ShowConnection,
)

_log = structlog.get_logger()

_REMEMBERED = 1000
_decoder = msgspec.json.Decoder(ControlRequest)


class Answers(Protocol):
    """Keys under which askers wait."""

    async def answer(self, reply: str, data: bytes) -> None:
        """Leave the answer under the key ``reply``; it is forgotten after a while. Raises Unavailable."""


@dataclass(slots=True)
class Control:
    """Carries out the requests of operators to this node."""

    connections: Connections
    answers: Answers
    _drain: asyncio.Event = field(default_factory=asyncio.Event)
    _over_s: float = 0.0
    _seen: deque[str] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    _tasks: Tasks = field(default_factory=Tasks)

    async def until_drained(self) -> float:
        """Return once the node is to send its sockets away: over how many seconds."""
        await self._drain.wait()
        return self._over_s

    def receive(self, data: bytes) -> None:
        """Carry out a request from the node's channel. Anything that is not of this protocol is ignored."""
        try:
            request = _decoder.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            _log.warning("control_request_skipped", reason="not of this protocol")
            return
        if request.reply not in self._seen:
            self._seen.append(request.reply)
            self._tasks.spawn(self._answer(request))

    async def _answer(self, request: ControlRequest) -> None:
        answer: ControlAnswer
        try:
            answer = self._carry_out(request)
        except MillraceError as exc:
            answer = RequestRefused(code=exc.code, detail=str(exc))
        try:
            await self.answers.answer(request.reply, msgspec.json.encode(answer))
        except Unavailable:
            _log.warning("control_answer_lost", request=type(request).__name__, reason="redis does not answer")

    def _carry_out(self, request: ControlRequest) -> ControlAnswer:
        match request:
            case ShowConnection(id=id_):
                return ConnectionShown(_state(self._connection(id_)))
            case CloseConnection(id=id_):
                connection = self._connection(id_)
                self._tasks.spawn(connection.end(BY_OPERATOR))
                security_log.done(
                    SecurityEvent.CONNECTION_CLOSED, connection_id=id_, user_id=connection.identity.user_id
                )
                return ConnectionClosed(BY_OPERATOR.code)
            case DrainNode(over_s=over_s):
                if self._drain.is_set():
                    raise Conflict("this node is draining already")
                self._over_s = over_s
                self._drain.set()
                _log.info("node_draining", over_s=over_s, connections=len(self.connections))
                security_log.done(SecurityEvent.NODE_DRAINED, connections=len(self.connections))
                return NodeDraining(len(self.connections))

    def _connection(self, id_: str) -> Connection:
        if id_ not in self.connections:
            raise NotFound("this connection has ended")
        return self.connections[id_]


def _state(connection: Connection) -> ConnectionState:
    socket = connection.socket
    joined = [subscription for id_, subscription in socket.subscriptions.items() if id_ in socket.joined]
    return ConnectionState(
        expires_at=wire_seconds(connection.identity.expires_at),
        waiting_bytes=connection.queue.waiting,
        leaving=connection.leaving,
        joined=tuple(JoinedConversation(each.room.conversation_id, each.has) for each in joined),
    )
