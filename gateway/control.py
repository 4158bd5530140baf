"""What an operator may ask of a node: it is said on the node's channel, and answered under a key that the asker names.

On a Redis Cluster every server passes a node's channel on, so the same words arrive several times: what was
answered once is not done again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import msgspec
import orjson
import structlog
from msgspec import Struct

from domain.errors import Conflict, MillraceError, NotFound, Unavailable
from gateway.connection import Connection, Connections
from gateway.session import BY_OPERATOR
from runtime.tasks import Tasks
from schemas.clock import wire_seconds

_log = structlog.get_logger()

_REMEMBERED = 1000


class ShowConnection(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, tag="connection.show"):
    """What this node knows of a connection."""

    reply: str
    id: str


class CloseConnection(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, tag="connection.close"):
    """End a connection; its client may come back."""

    reply: str
    id: str


class DrainNode(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, tag="node.drain"):
    """Send all sockets away over so many seconds, and end."""

    reply: str
    over_s: float


Asked: TypeAlias = ShowConnection | CloseConnection | DrainNode

_decoder = msgspec.json.Decoder(Asked)


class Answers(Protocol):
    """Where askers wait."""

    async def answer(self, reply: str, data: bytes) -> None:
        """Leave the answer there; it is forgotten after a while. Raises Unavailable."""


@dataclass(slots=True)
class Control:
    """Does what operators ask of this node."""

    connections: Connections
    answers: Answers
    _drain: asyncio.Event = field(default_factory=asyncio.Event)
    _over_s: float = 0.0
    _heard: deque[str] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    _tasks: Tasks = field(default_factory=Tasks)

    async def until_drained(self) -> float:
        """Return once the node is to send its sockets away: over how many seconds."""
        await self._drain.wait()
        return self._over_s

    def asked(self, data: bytes) -> None:
        """What came over the node's channel. Anything that is not of this protocol is ignored."""
        try:
            asked = _decoder.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            _log.warning("not understood: what was asked of this node")
            return
        if asked.reply not in self._heard:
            self._heard.append(asked.reply)
            self._tasks.spawn(self._answer(asked))

    async def _answer(self, asked: Asked) -> None:
        try:
            said = {"ok": True, **self._do(asked)}
        except MillraceError as exc:
            said = {"ok": False, "code": exc.code, "detail": str(exc)}
        try:
            await self.answers.answer(asked.reply, orjson.dumps(said))
        except Unavailable:
            _log.warning("an operator was not answered: redis is away")

    def _do(self, asked: Asked) -> dict[str, Any]:
        match asked:
            case ShowConnection(id=id_):
                return {"connection": _shown(self._connection(id_))}
            case CloseConnection(id=id_):
                self._tasks.spawn(self._connection(id_).end(BY_OPERATOR))
                _log.info("connection closed by an operator")
                return {"closeCode": BY_OPERATOR.code}
            case DrainNode(over_s=over_s):
                if self._drain.is_set():
                    raise Conflict("this node sends its sockets away already")
                self._over_s = over_s
                self._drain.set()
                _log.info("node drains", over_s=over_s, connections=len(self.connections))
                return {"connections": len(self.connections)}

    def _connection(self, id_: str) -> Connection:
        if id_ not in self.connections:
            raise NotFound("this connection has ended")
        return self.connections[id_]


def _shown(connection: Connection) -> dict[str, Any]:
    """Live, as no registry has it. No content."""
    places = connection.socket.places.values()
    return {
        "expiresAt": wire_seconds(connection.identity.expires_at),
        "waitingBytes": connection.wire.waiting,
        "leaving": connection.leaving,
        "joined": [{"id": place.room.conversation_id, "seq": place.has} for place in places],
    }
