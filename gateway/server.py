"""The WebSocket server: one socket, one task, from the handshake to the end."""

from __future__ import annotations

import socket as sockets
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from gateway import channels, handshake, session
from gateway.commands import Commands
from gateway.connection import Connection, Connections
from gateway.hub import Hub, Socket
from gateway.presence import PresenceDesk
from gateway.rooms import Rooms
from gateway.session import Close, Session
from gateway.typing import TypingDesk
from gateway.wire import Outlet, Wire
from runtime.auth import Identity
from runtime.errors import Unauthenticated, Unavailable
from runtime.metrics import CONNECTIONS
from runtime.ports import Registry, Subscriptions
from schemas.clock import wire_seconds
from schemas.frames import frame
from schemas.ids import new_id

_log = structlog.get_logger()

HEARTBEAT_S = 20
_USER_TIMEOUT_MS = 20_000


@dataclass(slots=True)
class Gateway:
    """Serves sockets of one node."""

    verify: Callable[[str], Identity]
    hub: Hub
    rooms: Rooms
    commands: Commands
    typing: TypingDesk
    presence: PresenceDesk
    registry: Registry
    subscriptions: Subscriptions
    origins: frozenset[str]
    clock: Callable[[], float]
    connections: Connections
    draining: bool = False
    _outlet: Outlet = field(default_factory=Outlet)

    def check(self, _: ServerConnection, request: Request) -> Response | None:
        """Refuse what is no WebSocket of ours before anything is spent on it."""
        if self.draining:
            return handshake.ending()
        return handshake.refusal(request, self.origins)

    async def handle(self, peer: ServerConnection) -> None:
        """One connection, from its first frame to its last."""
        try:
            identity = self.verify(handshake.token_of(peer.request))
        except Unauthenticated as exc:
            # A browser never sees an HTTP status of a failed handshake; it sees this.
            with suppress(ConnectionClosed):
                await peer.send(session.error(exc, None).decode())
            await peer.close(session.TOKEN_ENDED.code, session.TOKEN_ENDED.reason)
            return
        connection = self._open(peer, identity)
        try:
            await self._greet(connection)
            async for raw in peer:
                effect = connection.session.receive(raw, self.clock())
                await self.commands.carry_out(connection, effect)
                if isinstance(effect, Close):
                    return
        except ConnectionClosed:
            pass
        finally:
            await self._closed(connection)

    def _open(self, peer: ServerConnection, identity: Identity) -> Connection:
        wire = Wire(peer, self._outlet)
        socket = Socket(new_id(), identity.user_id, wire)
        connection = Connection(peer, socket, wire, Session(identity.user_id), handshake.device_of(peer.request))
        self.connections[socket.connection_id] = connection
        CONNECTIONS.inc()
        connection.expire(identity.expires_at, self.clock())
        return connection

    async def _greet(self, connection: Connection) -> None:
        socket, user = connection.socket, connection.socket.user_id
        if self.hub.enter(socket):
            for channel in (channels.user_messages(user), channels.user_notifications(user)):
                connection.spawn(_quietly(self.subscriptions.subscribe(channel)))
        try:
            if await self.registry.register(socket.connection_id, user):
                self.presence.came(user)
        except Unavailable:
            _log.warning("connection not registered: redis is away")
        connection.say(
            frame(
                "connected",
                connectionId=socket.connection_id,
                userId=user,
                heartbeatMs=HEARTBEAT_S * 1000,
                maxFrame=session.MAX_FRAME,
                expiresAt=wire_seconds(connection.expires_at),
            )
        )

    async def _closed(self, connection: Connection) -> None:
        socket = connection.socket
        self.connections.pop(socket.connection_id, None)
        CONNECTIONS.dec()
        connection.ended()
        emptied, last_here = self.hub.leave(socket)
        self.typing.died(socket.user_id)
        for room in emptied:
            await self.rooms.close(room)
        if last_here:
            await self.subscriptions.unsubscribe(channels.user_messages(socket.user_id))
            await self.subscriptions.unsubscribe(channels.user_notifications(socket.user_id))
        with suppress(Unavailable):
            if await self.registry.unregister(socket.connection_id, socket.user_id):
                self.presence.went(socket.user_id)


async def start_server(gateway: Gateway, host: str, port: int) -> Server:
    """Listen. Each accepted socket dies when its peer acknowledges nothing for 20 s (TCP_USER_TIMEOUT)."""
    listener = sockets.create_server((host, port), backlog=1024, reuse_port=False)
    listener.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)
    listener.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
    listener.setblocking(False)
    return await serve(
        gateway.handle,
        sock=listener,
        process_request=gateway.check,
        select_subprotocol=handshake.subprotocol,
        compression=None,
        max_size=session.MAX_FRAME,
        max_queue=16,
        ping_interval=HEARTBEAT_S,
        ping_timeout=HEARTBEAT_S,
        close_timeout=5,
        open_timeout=5,
        server_header=None,
    )


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    with suppress(Unavailable):
        await work
