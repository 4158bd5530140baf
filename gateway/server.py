"""The WebSocket server: one socket, one task, from the handshake to the end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import structlog
from msgspec import UNSET
from websockets.asyncio.server import Server
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from domain.errors import MillraceError, RateLimited, Unauthenticated, Unavailable
from domain.identity import Identity
from domain.origins import Origin
from domain.pubsub import PubSub
from gateway import channels, handshake, session
from gateway.admission import Admission
from gateway.commands import Commands
from gateway.connection import Connection, Connections
from gateway.fan_out import choose
from gateway.handshake import Identification
from gateway.hub import Hub
from gateway.leases import Leases
from gateway.room import Socket
from gateway.room_sync import RoomSync
from gateway.send_queue import SendQueue, WriteBatcher
from gateway.session import Close, Session
from gateway.transport import HEARTBEAT_S, ClientTransport, listen
from runtime.metrics import CONNECTIONS, REFUSED
from runtime.security_log import security_log
from runtime.tasks import Tasks
from schemas.clock import wire_seconds
from schemas.commands import MAX_FRAME
from schemas.frames import Connected, encoded
from schemas.ids import new_id

_log = structlog.get_logger()


@dataclass(slots=True)
class Gateway:
    """Serves the sockets of one node."""

    identification: Identification
    hub: Hub
    rooms: RoomSync
    commands: Commands
    leases: Leases
    pubsub: PubSub
    origins: frozenset[Origin]
    clock: Callable[[], float]
    connections: Connections
    admission: Admission = field(default_factory=Admission)
    draining: bool = False
    batcher: WriteBatcher = field(default_factory=WriteBatcher)
    compiled_send: bool = True
    _tasks: Tasks = field(default_factory=Tasks)
    """Subscriptions to user channels: a user's other sockets need them too, so they do not end with a connection."""

    def check(self, transport: ClientTransport, request: Request) -> Response | None:
        """Return a refusal of a request that is not for a WebSocket here, or of one too many; None to accept it."""
        if self.draining:
            return handshake.ending()
        if transport.slot is None:
            return handshake.refusing(Unavailable("this node is at its limit of connections; connect again later"))
        try:
            transport.slot.request(request.headers.get_all("X-Forwarded-For"), transport.loop.time())
        except MillraceError as exc:
            REFUSED.labels(exc.code).inc()
            return handshake.refusing(exc)
        return handshake.refusal(request, self.origins)

    async def handle(self, transport: ClientTransport) -> None:
        """Serve one connection, from its first frame to its last."""
        try:
            identity = await self.identification.identity_of(transport.request)
            assert transport.slot is not None
            transport.slot.enter(identity.user_id, transport.loop.time())
        except Unauthenticated as exc:
            await self._refuse(transport, exc, session.TOKEN_ENDED)
            return
        except Unavailable as exc:
            await self._refuse(transport, exc, session.UNAVAILABLE)
            return
        except RateLimited as exc:
            await self._refuse(transport, exc, session.TOO_MANY_CONNECTIONS)
            return
        if self.draining:  # since its handshake
            await transport.close(session.RESTART.code, session.RESTART.reason)
            return
        connection = self._open(transport, identity)
        try:
            await self._greet(connection)
            async for raw in transport:
                effect = connection.session.receive(raw, self.clock())
                await self.commands.carry_out(connection, effect)
                if isinstance(effect, Close):
                    return
        except ConnectionClosed:
            pass
        finally:
            await self._closed(connection)

    async def _refuse(self, transport: ClientTransport, error: MillraceError, close: Close) -> None:
        """Refuse by an ``error`` frame: a browser never sees the HTTP status of a failed handshake."""
        REFUSED.labels(error.code).inc()
        _log.debug("connection_refused", code=error.code, close_code=close.code)
        security_log.refusal(error, address=transport.slot.address if transport.slot is not None else None)
        with suppress(ConnectionClosed):
            await transport.send(encoded(session.error(error)).decode())
        await transport.close(close.code, close.reason)

    def _open(self, transport: ClientTransport, identity: Identity) -> Connection:
        limits = self.admission.limits
        id_, user, device = new_id(), identity.user_id, handshake.device_of(transport.request)
        log = _log.bind(connection_id=id_, user_id=user)
        transport.log = log
        queue = SendQueue(transport, self.batcher, limits.slow_client_timeout_s, log)
        socket = Socket(id_, user, queue)
        queue.subscriptions = socket.subscriptions
        protocol = Session(user, socket.joined, socket.subscriptions.keys(), limits)
        connection = Connection(transport, socket, queue, protocol, device, identity, log)
        self.connections[id_] = connection
        CONNECTIONS.inc()
        connection.live_by(identity, self.clock())
        log.debug("connection_opened", device=device)
        return connection

    async def _greet(self, connection: Connection) -> None:
        """Send ``connected``, the first frame: before it nothing can reach the socket."""
        socket, user = connection.socket, connection.socket.user_id
        connection.reply(
            Connected(
                connection_id=socket.connection_id,
                user_id=user,
                heartbeat_ms=HEARTBEAT_S * 1000,
                max_frame=MAX_FRAME,
                expires_at=wire_seconds(connection.identity.expires_at),
                epoch=self.rooms.epoch or UNSET,
            )
        )
        if self.hub.enter(socket):
            self._tasks.spawn(self._follow(user))
        await self.leases.opened(connection.entry)

    async def _follow(self, user_id: str) -> None:
        with suppress(Unavailable):
            if user_id in self.hub.users:
                await self.pubsub.subscribe(*_channels_of(user_id))

    async def _closed(self, connection: Connection) -> None:
        socket = connection.socket
        self.connections.pop(socket.connection_id, None)
        CONNECTIONS.dec()
        connection.ended()
        connection.log.debug(
            "connection_closed", code=connection.transport.close_code, conversations=len(socket.subscriptions)
        )
        for room in self.hub.leave(socket):
            await self.rooms.close(room)
        for channel in _channels_of(socket.user_id):
            if socket.user_id not in self.hub.users:  # another may have come meanwhile
                await self.pubsub.unsubscribe(channel)
        await self.leases.closed(connection.entry)


async def start_server(gateway: Gateway, host: str, port: int) -> Server:
    """Start to listen."""
    await choose(gateway.batcher, compiled=gateway.compiled_send)
    return await listen(host, port, gateway.admission, gateway.handle, gateway.check, handshake.subprotocol)


def _channels_of(user_id: str) -> tuple[str, str]:
    return channels.user_messages(user_id), channels.user_notifications(user_id)
