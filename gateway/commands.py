"""Carrying out what a client asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from domain.errors import Invalid, MillraceError, NotFound, Unauthenticated
from domain.identity import Verify
from gateway.connection import Connection
from gateway.hub import Hub, Place
from gateway.presence import PresenceDesk
from gateway.receipts import Receipts
from gateway.room_sync import Rooms
from gateway.send_queue import encode
from gateway.session import Ack, Close, Effect, Join, Leave, Read, Refresh, Say, Typing, error
from gateway.typing import TypingDesk
from schemas.clock import wire_seconds
from schemas.frames import frame


@dataclass(slots=True)
class Commands:
    """One for all connections of the node."""

    verify: Verify
    hub: Hub
    rooms: Rooms
    receipts: Receipts
    typing: TypingDesk
    presence: PresenceDesk
    clock: Callable[[], float]

    async def carry_out(self, connection: Connection, effect: Effect) -> None:
        """Do it, or say why not in an ``error`` frame."""
        try:
            match effect:
                case Say(payload=payload):
                    connection.say(payload)
                case Close():
                    await connection.end(effect)
                case Join():
                    self._start_join(connection, effect)
                case Leave():
                    await self._leave(connection, effect)
                case Ack() | Read():
                    await self._receipt(connection, effect)
                case Typing(conversation_id=str() as id_):
                    self.typing.sign(connection.socket.places[id_], effect.is_typing)
                case Refresh():
                    await self._refresh(connection, effect)
        except MillraceError as exc:
            connection.say(error(exc, getattr(effect, "ref", None)))

    def _start_join(self, connection: Connection, command: Join) -> None:
        before = connection.socket.places.get(command.id)
        if before is not None:
            self.hub.part(before)
        place = self.hub.place(connection.socket, command.id)
        connection.spawn(self._join(connection, place, command))

    async def _join(self, connection: Connection, place: Place, command: Join) -> None:
        try:
            seq = await self.rooms.join(place, command.after)
            if place.gone:
                raise NotFound("you were removed from this conversation, or joined it again meanwhile")
        except MillraceError as exc:
            if connection.socket.places.get(command.id) is place:
                room = self.hub.part(place)
                if room is not None:
                    await self.rooms.close(room)
            connection.say(error(exc, command.ref))
            return
        connection.say(frame("joined", id=command.id, seq=seq, ref=command.ref))
        for said in await self.presence.others(command.id, connection.socket.user_id):
            connection.wire.spare(encode(said))

    async def _leave(self, connection: Connection, command: Leave) -> None:
        place = connection.socket.places.get(command.id)
        room = self.hub.part(place) if place is not None else None
        if room is not None:
            await self.rooms.close(room)
        connection.say(frame("left", id=command.id, ref=command.ref))

    async def _receipt(self, connection: Connection, command: Ack | Read) -> None:
        place, seq = await self._pointed_at(connection, command)
        if seq > place.has:
            raise Invalid(f"seq is beyond what this socket was sent, which is {place.has}")
        conversation_id, user = place.room.conversation_id, connection.socket.user_id
        read = seq if isinstance(command, Read) else 0
        self.receipts.note(conversation_id, user, connection.device, delivered=seq, read=read)

    async def _pointed_at(self, connection: Connection, command: Ack | Read) -> tuple[Place, int]:
        places = connection.socket.places
        if command.seq is not None and command.conversation_id in places:
            return places[command.conversation_id], command.seq
        found = await self.rooms.history.place_of(command.message_id) if command.message_id is not None else None
        if found is not None and found[0] in places and command.conversation_id in (None, found[0]):
            return places[found[0]], found[1]
        raise NotFound("no such message in a conversation that is joined")

    async def _refresh(self, connection: Connection, command: Refresh) -> None:
        identity = await self.verify(command.token)
        if identity.user_id != connection.socket.user_id:
            raise Unauthenticated("the token is of another user; open another connection for it")
        connection.live_by(identity, self.clock())
        ends = wire_seconds(connection.identity.expires_at)
        connection.say(frame("auth.refreshed", expiresAt=ends, ref=command.ref))
