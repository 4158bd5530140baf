"""The WebSocket server: one socket, one task, and everything it started ends with it."""

from __future__ import annotations

import asyncio
import random
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
from gateway.hub import Hub, Place, Socket
from gateway.presence import PresenceDesk
from gateway.receipts import Receipts
from gateway.rooms import Rooms
from gateway.session import Ack, Close, Effect, Join, Leave, Read, Refresh, Say, Session, Typing
from gateway.typing import TypingDesk
from gateway.wire import Outlet, Wire, encode
from runtime.auth import Identity
from runtime.errors import Invalid, MillraceError, NotFound, Unauthenticated, Unavailable
from runtime.metrics import CONNECTIONS
from runtime.ports import Hint, Registry, Subscriptions
from schemas.clock import wire_seconds
from schemas.frames import frame
from schemas.ids import new_id

_log = structlog.get_logger()

HEARTBEAT_S = 20
DRAIN_S = 2.0
_USER_TIMEOUT_MS = 20_000


@dataclass(slots=True, eq=False)
class Connection:
    """A socket of the hub, with its session and what it started."""

    peer: ServerConnection
    socket: Socket
    wire: Wire
    session: Session
    expires_at: float
    device: str
    expiry: asyncio.TimerHandle | None = None
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def say(self, payload: bytes) -> None:
        """Send a frame; one that does not fit is an answer that its asker did not wait for."""
        self.wire.write(encode(payload))

    async def end(self, close: Close) -> None:
        """Close it; what it was told before goes out before."""
        self.wire.flush()
        await self.peer.close(close.code, close.reason)


@dataclass(slots=True)
class Gateway:
    """Serves sockets of one node."""

    verify: Callable[[str], Identity]
    hub: Hub
    rooms: Rooms
    receipts: Receipts
    typing: TypingDesk
    presence: PresenceDesk
    registry: Registry
    subscriptions: Subscriptions
    origins: frozenset[str]
    renew_s: float
    clock: Callable[[], float]
    connections: dict[str, Connection] = field(default_factory=dict)
    _outlet: Outlet = field(default_factory=Outlet)
    _draining: bool = False

    # handshake

    def check(self, _: ServerConnection, request: Request) -> Response | None:
        """Refuse what is no WebSocket of ours before anything is spent on it."""
        if self._draining:
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
            await self._greet(connection, identity)
            async for raw in peer:
                effect = connection.session.receive(raw, self.clock())
                if isinstance(effect, Close):
                    await connection.end(effect)
                    return
                await self._carry_out(connection, effect)
        except ConnectionClosed:
            pass
        finally:
            await self._closed(connection)

    def _open(self, peer: ServerConnection, identity: Identity) -> Connection:
        wire = Wire(peer, self._outlet)
        socket = Socket(new_id(), identity.user_id, wire)
        device = handshake.device_of(peer.request)
        connection = Connection(peer, socket, wire, Session(identity.user_id), identity.expires_at, device)
        self.connections[socket.connection_id] = connection
        CONNECTIONS.inc()
        self._arm_expiry(connection)
        return connection

    async def _greet(self, connection: Connection, identity: Identity) -> None:
        socket, user = connection.socket, identity.user_id
        if self.hub.enter(socket):
            for channel in (channels.user_messages(user), channels.user_notifications(user)):
                self._spawn(connection, _quietly(self.subscriptions.subscribe(channel)))
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
                expiresAt=wire_seconds(identity.expires_at),
            )
        )

    async def _closed(self, connection: Connection) -> None:
        socket = connection.socket
        self.connections.pop(socket.connection_id, None)
        CONNECTIONS.dec()
        if connection.expiry is not None:
            connection.expiry.cancel()
        for task in connection.tasks:
            task.cancel()
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

    # frames

    async def _carry_out(self, connection: Connection, effect: Effect) -> None:
        try:
            match effect:
                case Say(payload=payload):
                    connection.say(payload)
                case Join():
                    self._start_join(connection, effect)
                case Leave():
                    await self._leave(connection, effect)
                case Ack() | Read():
                    await self._receipt(connection, effect)
                case Typing(conversation_id=str() as id_):
                    user = connection.socket.user_id
                    self._spawn(connection, self.typing.sign(id_, user, effect.is_typing))
                case Refresh():
                    self._refresh(connection, effect)
        except MillraceError as exc:
            connection.say(session.error(exc, getattr(effect, "ref", None)))

    def _start_join(self, connection: Connection, command: Join) -> None:
        before = connection.socket.places.get(command.id)
        if before is not None:
            self.hub.part(before)
        place = self.hub.place(connection.socket, command.id)
        connection.session.joined.add(command.id)
        self._spawn(connection, self._join(connection, place, command))

    async def _join(self, connection: Connection, place: Place, command: Join) -> None:
        try:
            seq = await self.rooms.join(place, command.after)
            if place.gone:
                raise NotFound("you were removed from this conversation, or joined it again meanwhile")
        except MillraceError as exc:
            if connection.socket.places.get(command.id) is place:
                connection.session.joined.discard(command.id)
                room = self.hub.part(place)
                if room is not None:
                    await self.rooms.close(room)
            connection.say(session.error(exc, command.ref))
            return
        connection.say(frame("joined", id=command.id, seq=seq, ref=command.ref))
        for said in await self.presence.others(command.id, connection.socket.user_id):
            connection.say(said)

    async def _leave(self, connection: Connection, command: Leave) -> None:
        connection.session.joined.discard(command.id)
        place = connection.socket.places.get(command.id)
        room = self.hub.part(place) if place is not None else None
        if room is not None:
            await self.rooms.close(room)
        connection.say(frame("left", id=command.id, ref=command.ref))

    async def _receipt(self, connection: Connection, command: Ack | Read) -> None:
        place, seq = await self._pointed_at(connection, command)
        has = place.cursor if place.socket not in place.room.live else place.room.feed.cursor or 0
        if seq > has:
            raise Invalid(f"seq is beyond what this socket was sent, which is {has}")
        conversation_id, user = place.room.conversation_id, connection.socket.user_id
        read = seq if isinstance(command, Read) else 0
        self.receipts.note(conversation_id, user, connection.device, delivered=seq, read=read)

    async def _pointed_at(self, connection: Connection, command: Ack | Read) -> tuple[Place, int]:
        places = connection.socket.places
        if command.seq is not None and command.conversation_id in places:
            return places[command.conversation_id], command.seq
        wanted = [command.conversation_id] if command.conversation_id else list(places)
        for conversation_id in wanted:
            if command.message_id is not None and conversation_id in places:
                seq = await self.rooms.history.seq_of(conversation_id, command.message_id)
                if seq is not None and conversation_id in places:
                    return places[conversation_id], seq
        raise NotFound("no such message in a conversation that is joined")

    def _refresh(self, connection: Connection, command: Refresh) -> None:
        identity = self.verify(command.token)
        if identity.user_id != connection.socket.user_id:
            raise Unauthenticated("the token is of another user; open another connection for it")
        connection.expires_at = max(connection.expires_at, identity.expires_at)
        self._arm_expiry(connection)
        said = frame("auth.refreshed", expiresAt=wire_seconds(connection.expires_at), ref=command.ref)
        connection.say(said)

    def _arm_expiry(self, connection: Connection) -> None:
        if connection.expiry is not None:
            connection.expiry.cancel()
        left = connection.expires_at - self.clock()
        loop = asyncio.get_running_loop()
        connection.expiry = loop.call_later(max(0.0, left), self._expired, connection)

    def _expired(self, connection: Connection) -> None:
        self._spawn(connection, connection.end(session.TOKEN_ENDED))

    # what arrives over Redis

    async def listen(self) -> None:
        """Pass on what the channels of this node carry, for ever."""
        async for hint in self.subscriptions.hints():
            if hint.gap:
                self.rooms.arrived(hint)
                continue
            match channels.parsed(hint.channel):
                case ("conversation", _, "messages"):
                    self.rooms.arrived(hint)
                case ("conversation", id_, "events"):
                    self._event(id_, hint)
                case ("user", id_, "messages" | "notifications"):
                    self._for_user(id_, hint)

    def _event(self, conversation_id: str, hint: Hint) -> None:
        room = self.hub.rooms.get(conversation_id)
        if room is None:
            return
        about, payload = channels.opened(hint.data)
        encoded = encode(payload)
        for socket in room.live:
            if socket.user_id != about:
                socket.wire.write(encoded)  # a slow reader does without

    def _for_user(self, user_id: str, hint: Hint) -> None:
        about, payload = channels.opened(hint.data)
        encoded = encode(payload)
        for socket in self.hub.not_in(user_id, about):
            socket.wire.write(encoded)

    # time

    async def tick(self) -> None:
        """Renew leases, cut sockets that take nothing, for ever."""
        renew_at = 0.0
        while True:
            await asyncio.sleep(1.0)
            now = asyncio.get_running_loop().time()
            for connection in list(self.connections.values()):
                if connection.wire.stalled(now):
                    _log.info("socket cut: it takes nothing")
                    connection.peer.transport.abort()
            if now >= renew_at:
                renew_at = now + self.renew_s
                leases = {id_: c.socket.user_id for id_, c in self.connections.items()}
                with suppress(Unavailable):
                    await self.registry.renew(leases)

    def _spawn(self, connection: Connection, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        connection.tasks.add(task)
        task.add_done_callback(connection.tasks.discard)

    async def drain(self) -> None:
        """Send every socket away, spread over DRAIN_S; none can hold us up."""
        self._draining = True
        closing = [asyncio.create_task(self._send_away(c)) for c in list(self.connections.values())]
        if closing:
            await asyncio.wait(closing, timeout=DRAIN_S + 5)
        for connection in list(self.connections.values()):
            connection.peer.transport.abort()

    async def _send_away(self, connection: Connection) -> None:
        wait = random.uniform(0, DRAIN_S)
        restart = session.RESTART
        connection.say(frame("reconnect", afterMs=int(wait * 1000), reason=restart.reason))
        await asyncio.sleep(wait)
        await connection.end(restart)


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
