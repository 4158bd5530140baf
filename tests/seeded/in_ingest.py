"""Bugs of ingest and of its relay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from domain.drafts import Accepted, Draft
from schemas.messages import Message
from tests.seeded.base import bug, every


def instead_of_intake(wrong: Callable[..., Any]) -> None:
    """Store drafts by ``wrong``, which gets the right way to store them, and the drafts."""
    from adapters.postgres.intake import PostgresIntake

    for name in ("accept", "accept_plain"):
        right = getattr(PostgresIntake, name)

        async def accept(self: Any, drafts: Sequence[Draft], *, _right: Any = right, **more: Any) -> Any:
            return await wrong(partial(_right, self, **more), drafts)

        setattr(PostgresIntake, name, accept)


@bug
def forget_the_key() -> None:
    async def keyless(accept: Any, drafts: Sequence[Draft]) -> Any:
        return await accept([replace(draft, client_message_id=None) for draft in drafts])

    instead_of_intake(keyless)


@bug
def answer_without_storing() -> None:
    now = every(40)

    async def hasty(accept: Any, drafts: Sequence[Draft]) -> Any:
        if not now():
            return await accept(drafts)
        first, *others = drafts
        return [Accepted(invented(first)), *(await accept(others) if others else ())]

    instead_of_intake(hasty)


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
    from domain.errors import Unavailable

    now = every(8)

    async def lying(accept: Any, drafts: Sequence[Draft]) -> Any:
        outcomes = await accept(drafts)
        if now():
            raise Unavailable("try again")
        return outcomes

    instead_of_intake(lying)


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
    from ingest.relay import Relay

    following, now = Relay._next, every(40)

    async def forgetful(self: Any, outbox: Any) -> Any:
        rows = list(await following(self, outbox))
        skipped = [row for row in rows if row.topic == "message.created" and now()]
        await outbox.mark(skipped, {})
        return [row for row in rows if row not in skipped]

    Relay._next = forgetful


@bug
def poll_the_outbox_by_cursor() -> None:
    """An id is taken before the commit, so one that commits late lies behind the cursor."""
    from ingest.relay import Relay

    following, cursor = Relay._next, [""]

    async def beyond(self: Any, outbox: Any) -> Any:
        rows = list(await following(self, outbox))
        messages = [row for row in rows if row.topic == "message.created"]
        behind = [row for row in messages if row.event_id <= cursor[0]]
        await outbox.mark(behind, {})
        cursor[0] = max([cursor[0], *(row.event_id for row in messages)])
        return [row for row in rows if row not in behind]

    Relay._next = beyond
