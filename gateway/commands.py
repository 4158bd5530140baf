"""Carrying out the commands of clients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from domain.errors import Invalid, MillraceError, NotFound, RateLimited, Unauthenticated
from domain.identity import TokenFault, Verify
from gateway.connection import Connection
from gateway.framing import encode
from gateway.hub import Hub
from gateway.presence import PresenceTracker
from gateway.receipts import Receipts
from gateway.room import Subscription
from gateway.room_sync import RoomSync
from gateway.session import NO_MESSAGE, Close, Effect, Reply, error
from gateway.typing import TypingTracker
from runtime.security_log import security_log
from schemas.clock import wire_seconds
from schemas.commands import Ack, JoinConversation, LeaveConversation, Read, Ref, RefreshToken, Typing
from schemas.frames import Frame, Joined, Left, TokenRefreshed, answering

UNANSWERED_MAX = 16
"""Joins of one conversation on one socket that may wait for the same replay."""


@dataclass(slots=True)
class Commands:
    """Executor of commands for all connections of the node. ``clock`` gives Unix seconds."""

    verify: Verify
    hub: Hub
    rooms: RoomSync
    receipts: Receipts
    typing: TypingTracker
    presence: PresenceTracker
    clock: Callable[[], float]

    async def carry_out(self, connection: Connection, effect: Effect) -> None:
        """Carry out an effect, or refuse it in an ``error`` frame."""
        try:
            match effect:
                case Reply(frame=frame):
                    connection.reply(frame)
                case Close():
                    await connection.end(effect)
                case JoinConversation():
                    self._start_join(connection, effect)
                case LeaveConversation():
                    await self._leave(connection, effect)
                case Ack() | Read():
                    await self._receipt(connection, effect)
                case Typing(conversation_id=str() as id_):
                    self.typing.sign(connection.socket.subscriptions[id_], effect.is_typing)
                case RefreshToken():
                    await self._refresh(connection, effect)
        except MillraceError as exc:
            ref = None if isinstance(effect, Reply | Close) else effect.ref
            connection.log.debug("command_refused", command=type(effect).__name__, code=exc.code)
            if isinstance(exc, Unauthenticated):
                security_log.refusal(exc, connection_id=connection.socket.connection_id)
            connection.reply(error(exc, ref))

    def _start_join(self, connection: Connection, command: JoinConversation) -> None:
        """Start to join; a repeated join waits for the replay under way, if that sends all that it asks for."""
        before = connection.socket.subscriptions.get(command.id)
        if before is not None:
            if before.covers(command.after, command.epoch):
                if len(before.unanswered) >= UNANSWERED_MAX:
                    raise RateLimited("this conversation is being joined already", 1.0)
                before.unanswered.append(command.ref)
                return
            self.hub.unsubscribe(before)
        subscription = self.hub.subscribe(connection.socket, command.id)
        subscription.start, subscription.epoch = command.after, command.epoch
        subscription.unanswered.append(command.ref)
        connection.spawn(self._join(connection, subscription))

    async def _join(self, connection: Connection, subscription: Subscription) -> None:
        id_ = subscription.room.conversation_id
        log = connection.log.bind(conversation_id=id_)
        log.debug("join_started", after=subscription.start)
        answer: Callable[[Ref], Frame]
        try:
            await self.rooms.join(subscription)
            if subscription.gone:
                raise NotFound("you were removed from this conversation, or joined it again meanwhile")
            reached = await self.rooms.history.reached(id_, connection.socket.user_id, connection.device)
            log.debug("joined", seq=subscription.has, delivered_seq=reached[0], read_seq=reached[1])
            answer = partial(_joined, subscription, reached)
        except MillraceError as exc:
            if connection.socket.subscriptions.get(id_) is subscription:
                room = self.hub.unsubscribe(subscription)
                if room is not None:
                    await self.rooms.close(room)
            log.debug("join_refused", code=exc.code)
            answer = partial(error, exc)
        refs, subscription.unanswered = subscription.unanswered, []
        for ref in refs:
            connection.reply(answer(ref))
        if not subscription.gone:
            for frame in await self.presence.others(id_, connection.socket.user_id):
                connection.queue.send_ephemeral(encode(frame))

    async def _leave(self, connection: Connection, command: LeaveConversation) -> None:
        subscription = connection.socket.subscriptions.get(command.id)
        room = self.hub.unsubscribe(subscription) if subscription is not None else None
        if room is not None:
            await self.rooms.close(room)
        connection.log.debug("left", conversation_id=command.id)
        connection.reply(Left(id=command.id, ref=answering(command.ref)))

    async def _receipt(self, connection: Connection, command: Ack | Read) -> None:
        subscription, seq = await self._pointed_at(connection, command)
        if seq > subscription.has:
            raise Invalid(f"seq must not exceed what this socket was sent, which is {subscription.has}")
        conversation_id, user = subscription.room.conversation_id, connection.socket.user_id
        read = seq if isinstance(command, Read) else 0
        self.receipts.note(conversation_id, user, connection.device, delivered=seq, read=read)

    async def _pointed_at(self, connection: Connection, command: Ack | Read) -> tuple[Subscription, int]:
        socket = connection.socket
        if command.seq is not None and command.conversation_id in socket.joined:
            return socket.subscriptions[command.conversation_id], command.seq
        found = await self.rooms.history.place_of(command.message_id) if command.message_id is not None else None
        if found is not None and found[0] in socket.joined and command.conversation_id in (None, found[0]):
            return socket.subscriptions[found[0]], found[1]
        raise NotFound(NO_MESSAGE)

    async def _refresh(self, connection: Connection, command: RefreshToken) -> None:
        identity = await self.verify(command.token)
        if identity.user_id != connection.socket.user_id:
            raise Unauthenticated(
                "token must be of the same user; open another connection for another one",
                {"reason": TokenFault.OTHER_USER},
            )
        connection.live_by(identity, self.clock())
        expires_at = wire_seconds(connection.identity.expires_at)
        connection.log.debug("token_refreshed", expires_at=expires_at)
        connection.reply(TokenRefreshed(expires_at=expires_at, ref=answering(command.ref)))


def _joined(subscription: Subscription, reached: tuple[int, int], ref: Ref) -> Joined:
    room, (delivered, read) = subscription.room, reached
    return Joined(
        id=room.conversation_id,
        seq=subscription.has,
        delivered_seq=delivered,
        read_seq=read,
        epoch=room.epoch,
        ref=answering(ref),
    )
