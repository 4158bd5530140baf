"""The WebSocket server: one socket, one task, from the handshake to the end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import structlog
from websockets.asyncio.server import Server
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from domain.errors import MillraceError, RateLimited, Unauthenticated, Unavailable
from domain.identity import Identity
from domain.pubsub import Subscriptions
from gateway import channels, handshake, session
from gateway.admission import Admission
from gateway.commands import Commands
from gateway.connection import Connection, Connections
from gateway.frame_writer import tried
from gateway.handshake import Identification
from gateway.hub import Hub, Socket
from gateway.leases import Leases
from gateway.origins import Origin
from gateway.room_sync import Rooms
from gateway.send_queue import Outlet, Wire
from gateway.session import Close, Session
from gateway.transport import HEARTBEAT_S, Peer, listen
from runtime.metrics import CONNECTIONS, REFUSED
from runtime.tasks import Tasks
from schemas.clock import wire_seconds
from schemas.frames import frame
from schemas.ids import new_id

_log = structlog.get_logger()


@dataclass(slots=True)
class Gateway:
    """Serves sockets of one node."""

    identification: Identification
    hub: Hub
    rooms: Rooms
    commands: Commands
    leases: Leases
    subscriptions: Subscriptions
    origins: frozenset[Origin]
    clock: Callable[[], float]
    connections: Connections
    admission: Admission = field(default_factory=Admission)
    draining: bool = False
    outlet: Outlet = field(default_factory=Outlet)
    _tasks: Tasks = field(default_factory=Tasks)
    """The user's other sockets need them too, so they do not end with a connection."""

    def check(self, peer: Peer, request: Request) -> Response | None:
        """Refuse what is no WebSocket of ours, or one too many, before anything is spent on it."""
        if self.draining:
            return handshake.ending()
        if peer.visit is None:
            return handshake.refusing(Unavailable("this node has all the connections that it can take"))
        try:
            peer.visit.request(request.headers.get_all("X-Forwarded-For"), peer.loop.time())
        except MillraceError as exc:
            REFUSED.labels(exc.code).inc()
            return handshake.refusing(exc)
        return handshake.refusal(request, self.origins)

    async def handle(self, peer: Peer) -> None:
        """One connection, from its first frame to its last."""
        try:
            identity = await self.identification.identity_of(peer.request)
            assert peer.visit is not None
            peer.visit.enter(identity.user_id, peer.loop.time())
        except Unauthenticated as exc:
            await self._refuse(peer, exc, session.TOKEN_ENDED)
            return
        except Unavailable as exc:
            await self._refuse(peer, exc, session.UNAVAILABLE)
            return
        except RateLimited as exc:
            await self._refuse(peer, exc, session.TOO_MANY)
            return
        if self.draining:  # since its handshake
            await peer.close(session.RESTART.code, session.RESTART.reason)
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

    async def _refuse(self, peer: Peer, error: MillraceError, close: Close) -> None:
        """A browser never sees an HTTP status of a failed handshake; it sees this."""
        REFUSED.labels(error.code).inc()
        with suppress(ConnectionClosed):
            await peer.send(session.error(error, None).decode())
        await peer.close(close.code, close.reason)

    def _open(self, peer: Peer, identity: Identity) -> Connection:
        limits = self.admission.limits
        wire = Wire(peer, self.outlet, limits.lagging_s)
        socket = Socket(new_id(), identity.user_id, wire)
        said = Session(identity.user_id, socket.places.keys(), limits)
        connection = Connection(peer, socket, wire, said, handshake.device_of(peer.request), identity)
        self.connections[socket.connection_id] = connection
        CONNECTIONS.inc()
        connection.live_by(identity, self.clock())
        return connection

    async def _greet(self, connection: Connection) -> None:
        """``connected`` is the first frame: before it nothing can reach the socket."""
        socket, user = connection.socket, connection.socket.user_id
        connection.say(
            frame(
                "connected",
                connectionId=socket.connection_id,
                userId=user,
                heartbeatMs=HEARTBEAT_S * 1000,
                maxFrame=session.MAX_FRAME,
                expiresAt=wire_seconds(connection.identity.expires_at),
            )
        )
        if self.hub.enter(socket):
            for channel in _channels_of(user):
                self._tasks.spawn(self._follow(user, channel))
        await self.leases.began(connection.entry)

    async def _follow(self, user_id: str, channel: str) -> None:
        with suppress(Unavailable):
            if user_id in self.hub.users:
                await self.subscriptions.subscribe(channel)

    async def _closed(self, connection: Connection) -> None:
        socket = connection.socket
        self.connections.pop(socket.connection_id, None)
        CONNECTIONS.dec()
        connection.ended()
        for room in self.hub.leave(socket):
            await self.rooms.close(room)
        for channel in _channels_of(socket.user_id):
            if socket.user_id not in self.hub.users:  # another may have come meanwhile
                await self.subscriptions.unsubscribe(channel)
        await self.leases.ended(connection.entry)


async def start_server(gateway: Gateway, host: str, port: int) -> Server:
    """Listen."""
    gateway.outlet.writer = await tried()
    return await listen(host, port, gateway.admission, gateway.handle, gateway.check, handshake.subprotocol)


def _channels_of(user_id: str) -> tuple[str, str]:
    return channels.user_messages(user_id), channels.user_notifications(user_id)
