"""Notifications of users who were away, read over HTTP as their clients read them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from verify.activity import Access
from verify.history import InboxEntry, Room

_PAGE = 200


async def read_inboxes(access: Access, rooms: Sequence[Room]) -> Mapping[str, Sequence[InboxEntry]]:
    """Return the notifications of each user who was away in some conversation, in the order of the pages.

    Raises Refused and Unavailable of the client library.
    """
    users = sorted({user for room in rooms for user in room.workload.away})
    inboxes = await asyncio.gather(*(_inbox(access, user) for user in users))
    return dict(zip(users, inboxes, strict=True))


async def _inbox(access: Access, user: str) -> Sequence[InboxEntry]:
    client, entries, cursor = access.user(user), list[InboxEntry](), None
    while True:
        page = await client.notifications(limit=_PAGE, cursor=cursor)
        entries += [
            InboxEntry(entry.notification_id, entry.message.conversation_id, entry.message.message_id)
            for entry in page.notifications
        ]
        cursor = page.next
        if cursor is None:
            return entries
