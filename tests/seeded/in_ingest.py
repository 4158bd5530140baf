"""Bugs of ingest and of its relay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from domain.drafts import Accepted, Draft
from schemas.messages import Message
from tests.seeded.base import bug, every


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
