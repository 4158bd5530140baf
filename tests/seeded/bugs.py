"""Bugs that a chat system could have, each put into one adapter or rule: the checker must find every one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from domain.drafts import Accepted, Draft
from schemas.messages import Message

Patch = Callable[[], None]
BUGS: dict[str, Patch] = {}
_CONTENT = b'"type":"new_message"'


def bug(patch: Patch) -> Patch:
    """Known by its name with dashes."""
    BUGS[patch.__name__.replace("_", "-")] = patch
    return patch


def every(number: int) -> Callable[[], bool]:
    """True each so many calls."""
    count = itertools.count(1)
    return lambda: not next(count) % number


# the gateway


@bug
def drop_a_frame() -> None:
    from gateway.send_queue import SendQueue

    write, now = SendQueue.write, every(40)
    SendQueue.write = lambda self, frame, *limit: True if _CONTENT in frame and now() else write(self, frame, *limit)


@bug
def swap_two_frames() -> None:
    from gateway.send_queue import SendQueue

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
    frames.new_message = lambda m: whole(replace_message(m, content=m.content.upper()) if now() else m)


@bug
def remove_late() -> None:
    import asyncio

    from gateway.room_sync import RoomSync

    remove = RoomSync._remove
    RoomSync._remove = lambda *given: asyncio.get_running_loop().call_later(12.0, remove, *given)


@bug
def hide_the_beginning() -> None:
    """Whoever joins a conversation that has begun is told that its first entries are hidden."""
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
    publications._status = lambda event: status(replace_message(event, notify=()))


@bug
def let_watermarks_fall_on_the_wire() -> None:
    from schemas import frames

    whole, now = frames.message_status, every(10)
    frames.message_status = lambda event: whole(
        replace_message(event, delivered_seq=1, read_seq=min(event.read_seq, 1)) if now() else event
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


def replace_message(message: Any, **changes: Any) -> Any:
    import msgspec

    return msgspec.structs.replace(message, **changes)


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


# ingest


@bug
def forget_the_key() -> None:
    from adapters.postgres.intake import PostgresIntake

    accept = PostgresIntake.accept

    async def keyless(self: Any, drafts: Sequence[Draft], **more: Any) -> Any:
        return await accept(self, [replace(draft, client_message_id=None) for draft in drafts], **more)

    PostgresIntake.accept = keyless


@bug
def answer_without_storing() -> None:
    from adapters.postgres.intake import PostgresIntake

    accept, now = PostgresIntake.accept, every(40)

    async def hasty(self: Any, drafts: Sequence[Draft], **more: Any) -> Any:
        if not now():
            return await accept(self, drafts, **more)
        first, *others = drafts
        return [Accepted(invented(first)), *(await accept(self, others, **more) if others else ())]

    PostgresIntake.accept = hasty


def invented(draft: Draft) -> Message:
    return Message(
        message_id=draft.message_id,
        conversation_id=draft.conversation_id,
        seq=10**6,
        sender_id=draft.sender_id,
        type=draft.type,
        content=draft.content,
        created_at="2026-01-01T00:00:00.000Z",
    )


@bug
def commit_and_say_unavailable() -> None:
    """Tell some senders that surely nothing was stored, after it was."""
    from adapters.postgres.intake import PostgresIntake
    from domain.errors import Unavailable

    accept, now = PostgresIntake.accept, every(8)

    async def lying(self: Any, drafts: Sequence[Draft], **more: Any) -> Any:
        outcomes = await accept(self, drafts, **more)
        if now():
            raise Unavailable("try again")
        return outcomes

    PostgresIntake.accept = lying


@bug
def leave_messages_out() -> None:
    from adapters.postgres.messages import PostgresMessages

    page = PostgresMessages.page

    async def forgetful(self: Any, *query: Any) -> Any:
        return [message for message in await page(self, *query) if message.seq % 7]

    PostgresMessages.page = forgetful


@bug
def count_one_unread_more() -> None:
    from adapters.postgres.conversations import PostgresConversations

    mine, now = PostgresConversations.mine, every(5)

    async def generous(self: Any, *query: Any) -> Any:
        return [replace(line, unread=line.unread + now()) for line in await mine(self, *query)]

    PostgresConversations.mine = generous


@bug
def show_one_message_less() -> None:
    from adapters.postgres.analytics import PostgresCounts

    minutes = PostgresCounts.minutes

    async def modest(self: Any, *query: Any) -> Any:
        (minute, count), *others = await minutes(self, *query) or [(None, 1)]
        return [(minute, count - 1), *others] if minute is not None else []

    PostgresCounts.minutes = modest


@bug
def replay_other_content() -> None:
    from domain import drafts as intake

    intake._replay = lambda _, message, __: Accepted(message, replayed=True)


@bug
def skip_an_outbox_row() -> None:
    from adapters.postgres.outbox import PostgresOutbox

    unpublished, now = PostgresOutbox.unpublished, every(40)

    async def forgetful(self: Any, limit: int) -> Any:
        rows = list(await unpublished(self, limit))
        skipped = [row for row in rows if row.topic == "message.created" and now()]
        await self.mark(skipped, {})
        return [row for row in rows if row not in skipped]

    PostgresOutbox.unpublished = forgetful


@bug
def poll_the_outbox_by_cursor() -> None:
    """An id is taken before the commit, so one that commits late lies behind the cursor."""
    from adapters.postgres.outbox import PostgresOutbox

    unpublished, cursor = PostgresOutbox.unpublished, [""]

    async def beyond(self: Any, limit: int) -> Any:
        rows = list(await unpublished(self, limit))
        messages = [row for row in rows if row.topic == "message.created"]
        behind = [row for row in messages if row.event_id <= cursor[0]]
        await self.mark(behind, {})
        cursor[0] = max([cursor[0], *(row.event_id for row in messages)])
        return [row for row in rows if row not in behind]

    PostgresOutbox.unpublished = beyond


# the stages


@bug
def stall_after_a_restart() -> None:
    """Everything is right, and 20 s late, whenever a stage is started again."""
    import asyncio

    from streams.worker import Worker

    run = Worker.run

    async def late(self: Any, stop: Any) -> None:
        started = self.data_dir / f"seeded-{self.stage.name}-started"
        if started.exists():
            await asyncio.sleep(20)
        started.touch()
        await run(self, stop)

    Worker.run = late


@bug
def acknowledge_on_exception() -> None:
    from streams import worker
    from streams.batch import Result

    process, now = worker.process, every(25)

    async def swallowing(stage: Any, batch: Any, log: Any, retry: Any, done: Any, skips: Any) -> None:
        if now():
            done(batch, Result())
        else:
            await process(stage, batch, log, retry, done, skips)

    worker.process = swallowing


def fall(statement: str) -> None:
    """Now and then, after watermarks advance, run the statement on their conversations."""
    from adapters.postgres.pool import connection
    from adapters.postgres.statuses import PostgresStatuses

    advance, now = PostgresStatuses.advance, every(10)

    async def falling(self: Any, marks: Any, *more: Any) -> Any:
        moved = await advance(self, marks, *more)
        if now():
            async with connection(self.pool) as conn:
                await conn.execute(statement, ([mark.conversation_id for mark in marks],))
        return moved

    PostgresStatuses.advance = falling


@bug
def let_a_status_fall() -> None:
    fall("UPDATE messages SET status = 1 WHERE conversation_id = ANY(%s::uuid[]) AND seq = 1")


@bug
def let_a_watermark_fall() -> None:
    fall("UPDATE receipts SET read_seq = 0, delivered_seq = 0 WHERE conversation_id = ANY(%s::uuid[])")


@bug
def ignore_what_was_read() -> None:
    from streams.stages import status

    watermarks_of = status.watermarks_of
    status.watermarks_of = lambda receipts: [replace(mark, read_seq=0) for mark in watermarks_of(receipts)]


@bug
def ignore_answers() -> None:
    from streams.stages import status

    status.receipts_of = lambda answers, at: []


@bug
def set_aside_in_search() -> None:
    from streams.stage import Refused
    from streams.stages.search import HandleSearch

    handle = HandleSearch.__call__

    async def picky(self: Any, events: Any) -> Any:
        if any(event.message.seq % 10 == 0 for event in events):
            return [Refused(event, "too round") for event in events]
        return await handle(self, events)

    HandleSearch.__call__ = picky


@bug
def end_by_itself() -> None:
    import os

    from streams.stages.media import HandleMedia

    handle, now = HandleMedia.__call__, every(30)

    async def mortal(self: Any, events: Any) -> Any:
        if now():
            os._exit(70)
        return await handle(self, events)

    HandleMedia.__call__ = mortal


@bug
def serve_the_original_to_all() -> None:
    from ingest.http import downloads

    stored_part = downloads.stored_part
    downloads.stored_part = lambda media, user, wanted: (
        "original" if wanted == "file" else stored_part(media, user, wanted)
    )


@bug
def count_twice() -> None:
    from adapters.postgres.analytics import PostgresCounts
    from adapters.postgres.pool import connection

    add, now = PostgresCounts.add, every(10)

    async def generous(self: Any, ticks: Any) -> Any:
        totals = await add(self, ticks)
        if now() and ticks:
            async with connection(self.pool) as conn:
                await conn.execute(
                    "UPDATE analytics_minutes SET messages = messages + 1 WHERE conversation_id = %s::uuid",
                    (ticks[0].conversation_id,),
                )
        return totals

    PostgresCounts.add = generous


@bug
def notify_nobody() -> None:
    from adapters.postgres.notifications import PostgresNotifications

    async def nothing(*_: object) -> None:
        pass

    PostgresNotifications.add = nothing


@bug
def notify_who_is_there() -> None:
    from adapters.redis.registry import RedisRegistry

    async def everybody(_: Any, user_ids: Sequence[str]) -> frozenset[str]:
        return frozenset(user_ids)

    RedisRegistry.away = everybody


@bug
def notify_of_everything_in_large_conversations() -> None:
    from adapters.postgres.notifications import PostgresNotifications

    audiences = PostgresNotifications.audiences
    PostgresNotifications.audiences = lambda self, newest, _: audiences(self, newest, 10**6)
