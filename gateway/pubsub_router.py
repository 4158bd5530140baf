"""Routing of what arrives over Redis to the rooms and sockets of this node."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import structlog

from domain.pubsub import Hint, PubSub
from gateway import channels
from gateway.control import Control
from gateway.framing import encode
from gateway.hub import Hub
from gateway.room_sync import RoomSync
from gateway.send_queue import WriteBatcher
from gateway.typing import RemoteTyping
from gateway.watermark_order import WatermarkOrder
from runtime.revocation_watch import Watch, subscribe

_log = structlog.get_logger()


@dataclass(slots=True)
class PubSubRouter:
    """Passes on what the channels of this node carry."""

    hub: Hub
    rooms: RoomSync
    typing: RemoteTyping
    control: Control
    pubsub: PubSub
    revocations: Watch
    batcher: WriteBatcher
    watermarks: WatermarkOrder = field(default_factory=WatermarkOrder)

    async def run(self) -> None:
        """Run for ever."""
        subscribing = asyncio.create_task(subscribe(self.pubsub))
        try:
            await self._pass_on()
        finally:
            subscribing.cancel()

    async def _pass_on(self) -> None:
        async for hints in self.pubsub.hints():
            if len({hint.channel for hint in hints}) < len(hints):  # the same sockets get several
                self.batcher.join()
            for hint in hints:
                try:
                    self._route(hint)
                except Exception as exc:  # anybody who may publish can write anything there
                    kind, reason = hint.channel.partition(":")[0], type(exc).__name__
                    bug = None if isinstance(exc, ValueError) else exc
                    _log.warning("publication_skipped", channel_kind=kind, reason=reason, exc_info=bug)

    def _route(self, hint: Hint) -> None:
        if hint.channel == channels.REVOCATIONS:
            self.revocations.look()
        elif hint.gap:
            _log.debug("pubsub_gap", channel_kind=hint.channel.partition(":")[0])
            self.rooms.compare_soon()
        else:
            self._message(hint)

    def _message(self, hint: Hint) -> None:
        match channels.parsed(hint.channel):
            case ("conversation", id_, "messages"):
                self.rooms.on_message(id_, channels.opened(hint.data))
            case ("conversation", id_, "events"):
                self._event(id_, hint)
            case ("user", id_, "messages" | "notifications"):
                self._for_user(id_, hint)
            case ("node", _, _):
                self.control.receive(hint.data)

    def _event(self, conversation_id: str, hint: Hint) -> None:
        room = self.hub.rooms.get(conversation_id)
        if room is None:
            return
        envelope = channels.opened(hint.data)
        room.broadcast(envelope.about, encode(envelope.frame))
        self.typing.note(conversation_id, envelope)

    def _for_user(self, user_id: str, hint: Hint) -> None:
        envelope = channels.opened(hint.data)
        now = asyncio.get_running_loop().time()
        if envelope.kind == channels.Kind.STATUS and not self.watermarks.passes(user_id, envelope, now):
            return
        joined = None if envelope.kind in channels.EVERY_SOCKET else envelope.about
        encoded = encode(envelope.frame)
        for socket in self.hub.sockets_of(user_id, without=joined):
            socket.outbound.send_latest(envelope, encoded)
