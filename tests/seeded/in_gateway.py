"""Bugs of the gateway."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tests.seeded.base import bug, changed, every

_CONTENT = b'"type":"new_message"'


def give_each_frame_to_each_queue() -> None:
    """So every frame passes ``SendQueue.write``."""
    from gateway import fan_out

    fan_out.flattener = lambda _: None


@bug
def drop_a_frame() -> None:
    from gateway.send_queue import SendQueue

    give_each_frame_to_each_queue()
    write, now = SendQueue.write, every(40)
    SendQueue.write = lambda self, frame, *limit: True if _CONTENT in frame and now() else write(self, frame, *limit)


@bug
def swap_two_frames() -> None:
    from gateway.send_queue import SendQueue

    give_each_frame_to_each_queue()
    write, now, held = SendQueue.write, every(40), {}

    def late(self: Any, frame: bytes, *limit: int) -> bool:
        if _CONTENT in frame and self not in held and now():
            held[self] = frame
            return True
        taken = write(self, frame, *limit)
        if _CONTENT in frame and self in held:
            write(self, held.pop(self))
        return taken

    SendQueue.write = late


@bug
def serve_everybody() -> None:
    from adapters.postgres.history import PostgresHistory
    from domain.history import Membership

    async def everybody(*_: object) -> Membership:
        return Membership(0)

    PostgresHistory.membership = everybody


@bug
def keep_the_removed() -> None:
    from gateway.room_sync import RoomSync

    RoomSync._remove = lambda *_: None


@bug
def put_a_member_out() -> None:
    from gateway.room_sync import RoomSync

    on_message, now = RoomSync.on_message, every(200)

    def hasty(self: Any, *message: Any) -> None:
        on_message(self, *message)
        if now():
            room = next(room for room in self.hub.rooms.values() if not room.empty)
            self._evict(room.subscriptions()[0])

    RoomSync.on_message = hasty


@bug
def alter_a_content() -> None:
    from schemas import frames

    whole, now = frames.new_message, every(40)
    frames.new_message = lambda m: whole(changed(m, content=m.content.upper()) if now() else m)


@bug
def remove_late() -> None:
    import asyncio

    from gateway.room_sync import RoomSync

    remove = RoomSync._remove
    RoomSync._remove = lambda *given: asyncio.get_running_loop().call_later(12.0, remove, *given)


@bug
def hide_the_beginning() -> None:
    """A conversation that has begun says to who joins it that its first entries are hidden."""
    from gateway.cursors import Cursors

    check = Cursors.check_member

    async def hiding(self: Any, subscription: Any) -> None:
        await check(self, subscription)
        if (subscription.room.buffer.cursor or 0) > 3:
            subscription.hidden_up_to = 3

    Cursors.check_member = hiding


@bug
def forget_the_receipts_of_a_device() -> None:
    from gateway.receipts import Receipts

    note = Receipts.note

    def forgetful(self: Any, conversation_id: str, user_id: str, device: str, **marks: int) -> None:
        if device != "pocket":
            note(self, conversation_id, user_id, device, **marks)

    Receipts.note = forgetful


@bug
def forget_hints_that_wait() -> None:
    from gateway.hint_budget import HintBudget

    HintBudget.due = lambda self, now: []


@bug
def tell_no_status() -> None:
    """Watermarks go to the devices of the member itself, and to no sender."""
    from gateway import publications

    status = publications._status
    publications._status = lambda event: status(changed(event, notify=()))


@bug
def let_watermarks_fall_on_the_wire() -> None:
    from schemas import frames

    whole, now = frames.message_status, every(10)
    frames.message_status = lambda event: whole(
        changed(event, delivered_seq=1, read_seq=min(event.read_seq, 1)) if now() else event
    )


@bug
def announce_notifications_twice() -> None:
    from gateway import dispatcher
    from schemas.events import NotificationSent

    publications_of = dispatcher.publications_of

    def twice(fact: Any, **how: bool) -> Any:
        made = publications_of(fact, **how)
        return replace(made, users=(*made.users, *made.users)) if isinstance(fact, NotificationSent) else made

    dispatcher.publications_of = twice


@bug
def publish_nothing() -> None:
    """Messages arrive all the same, by the comparison of heads every two seconds; statuses do not."""
    publish_only(lambda _: False)


@bug
def publish_no_message() -> None:
    """Everything arrives all the same, and only the time tells."""
    publish_only(lambda channel: not channel.startswith("conversation:"))


def publish_only(is_published: Callable[[str], bool]) -> None:
    from adapters.redis.publisher import RedisFanout

    publish = RedisFanout.publish

    async def some(self: Any, messages: Sequence[tuple[str, bytes]]) -> None:
        await publish(self, [message for message in messages if is_published(message[0])])

    RedisFanout.publish = some
