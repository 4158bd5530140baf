"""What arrives over Redis, to the sockets of this node that it concerns."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from domain.pubsub import Hint, Subscriptions
from gateway import channels
from gateway.control import Control
from gateway.hub import Hub
from gateway.room_sync import Rooms
from gateway.send_queue import Outlet, encode
from gateway.typing import Heard
from runtime.revocation_watch import Watch, subscribe

_log = structlog.get_logger()


@dataclass(slots=True)
class Listener:
    """Passes on what the channels of this node carry."""

    hub: Hub
    rooms: Rooms
    heard: Heard
    control: Control
    subscriptions: Subscriptions
    revocations: Watch
    outlet: Outlet

    async def run(self) -> None:
        """For ever."""
        subscribing = asyncio.create_task(subscribe(self.subscriptions))
        try:
            await self._pass_on()
        finally:
            subscribing.cancel()

    async def _pass_on(self) -> None:
        async for hints in self.subscriptions.hints():
            if len({hint.channel for hint in hints}) < len(hints):  # the same sockets get several
                self.outlet.join()
            for hint in hints:
                try:
                    self._take(hint)
                except ValueError:  # anybody who may publish can write anything there
                    _log.warning("not understood: a message of Redis", kind=hint.channel.partition(":")[0])

    def _take(self, hint: Hint) -> None:
        if hint.channel == channels.REVOCATIONS:
            self.revocations.look()
        elif hint.gap:
            self.rooms.arrived(hint)
        else:
            self._message(hint)

    def _message(self, hint: Hint) -> None:
        match channels.parsed(hint.channel):
            case ("conversation", _, "messages"):
                self.rooms.arrived(hint)
            case ("conversation", id_, "events"):
                self._event(id_, hint)
            case ("user", id_, "messages" | "notifications"):
                self._for_user(id_, hint)
            case ("node", _, _):
                self.control.asked(hint.data)

    def _event(self, conversation_id: str, hint: Hint) -> None:
        room = self.hub.rooms.get(conversation_id)
        if room is None:
            return
        about, payload = channels.opened(hint.data)
        room.tell(about, encode(payload))
        self.heard.note(conversation_id, about, payload)

    def _for_user(self, user_id: str, hint: Hint) -> None:
        about, payload = channels.opened(hint.data)
        encoded = encode(payload)
        for socket in self.hub.not_in(user_id, about):
            socket.wire.news(payload, encoded)
