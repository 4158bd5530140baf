"""Messages between an operator and a gateway node, over Redis.

A request is published on the channel of the node; the answer is left under the key that ``reply`` names.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from schemas.fields import CodeText, Seq, Time, Uuid


class ShowConnection(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, tag="connection.show"):
    """Describe a connection of the node."""

    reply: str
    id: str


class CloseConnection(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, tag="connection.close"):
    """End a connection; its client may come back."""

    reply: str
    id: str


class DrainNode(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, tag="node.drain"):
    """Send all sockets away over so many seconds, and end the node."""

    reply: str
    over_s: float


ControlRequest: TypeAlias = ShowConnection | CloseConnection | DrainNode

REQUESTS: tuple[type[ControlRequest], ...] = (ShowConnection, CloseConnection, DrainNode)


class JoinedConversation(Struct, frozen=True, rename="camel"):
    """A conversation that a socket has joined, and the seq up to which it was sent everything."""

    id: Uuid
    seq: Seq


class ConnectionState(Struct, frozen=True, rename="camel"):
    """A connection as its node has it; no registry knows this. Carries no content."""

    expires_at: Time
    waiting_bytes: int
    leaving: bool
    joined: tuple[JoinedConversation, ...]


class ConnectionShown(Struct, frozen=True, rename="camel"):
    """The answer to ``connection.show``."""

    connection: ConnectionState
    ok: bool = True


class ConnectionClosed(Struct, frozen=True, rename="camel"):
    """The answer to ``connection.close``."""

    close_code: int
    ok: bool = True


class NodeDraining(Struct, frozen=True, rename="camel"):
    """The answer to ``node.drain``: how many connections the node sends away."""

    connections: int
    ok: bool = True


class RequestRefused(Struct, frozen=True, rename="camel"):
    """The answer to a request that cannot be carried out; ``code`` and ``detail`` as over HTTP."""

    code: CodeText
    detail: str
    ok: bool = False


ControlAnswer: TypeAlias = ConnectionShown | ConnectionClosed | NodeDraining | RequestRefused
ANSWERS: tuple[type[ControlAnswer], ...] = (ConnectionShown, ConnectionClosed, NodeDraining, RequestRefused)
