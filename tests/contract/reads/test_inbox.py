"""Notifications as their recipients read them: the twin and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from domain.errors import NotFound
from domain.notifications import NotificationDraft
from schemas.ids import new_id
from tests.contract.reads.conftest import World


async def notify(world: World, *contents: str, user: str = "bob") -> list[str]:
    """Ids of new notifications, oldest first."""
    ids = sorted(new_id() for _ in contents)
    for id_, content in zip(ids, contents, strict=True):
        message = await world.send(content)
        draft = NotificationDraft(id_, message.message_id, world.room, message.seq, user)
        await world.notifications.add([draft])
    return ids


async def test_notifications_are_read_newest_first_in_pages_by_their_recipient(world):
    ids = await notify(world, "a", "b", "c")
    page = await world.inbox.page("bob", unseen=False, before=None, limit=2)
    assert [(n.notification_id, n.message.content) for n in page] == [(ids[2], "c"), (ids[1], "b")]
    assert {(n.channel, n.seen_at) for n in page} == {("in_app", None)}
    assert abs((page[0].created_at - datetime.now(UTC)).total_seconds()) < 60
    rest = await world.inbox.page("bob", unseen=False, before=ids[1], limit=2)
    assert [n.notification_id for n in rest] == ids[:1]
    assert await world.inbox.page("alice", unseen=False, before=None, limit=2) == []


async def test_a_notification_is_seen_with_all_older_ones_and_no_newer(world):
    ids = await notify(world, "a", "b", "c")
    others = await notify(world, "d", user="carol")
    await world.inbox.mark_seen("bob", ids[1])
    await world.inbox.mark_seen("bob", ids[1])
    seen = {n.notification_id: n.seen_at for n in await world.inbox.page("bob", unseen=False, before=None, limit=9)}
    assert [seen[id_] is not None for id_ in ids] == [True, True, False]
    unseen = await world.inbox.page("bob", unseen=True, before=None, limit=9)
    assert [n.notification_id for n in unseen] == ids[2:]
    await world.inbox.mark_seen("bob", ids[2])
    assert [n.seen_at for n in await world.inbox.page("carol", unseen=True, before=None, limit=9)] == [None]
    again = {n.notification_id: n.seen_at for n in await world.inbox.page("bob", unseen=False, before=None, limit=9)}
    assert again[ids[0]] == seen[ids[0]]
    assert others


async def test_the_order_is_that_of_storing_whatever_the_ids_say(world):
    """Ids come from the clocks of workers: one that is behind must not hide a notification behind a cursor."""
    early, late = sorted(new_id() for _ in range(2))
    for id_ in (late, early):
        message = await world.send(id_)
        await world.notifications.add([NotificationDraft(id_, message.message_id, world.room, message.seq, "bob")])

    async def ids(*, unseen: bool = False, before: str | None = None) -> list[str]:
        found = await world.inbox.page("bob", unseen=unseen, before=before, limit=1)
        return [n.notification_id for n in found if n.message.conversation_id == world.room]

    assert (await ids(), await ids(before=early)) == ([early], [late])
    await world.inbox.mark_seen("bob", late)
    assert await ids(unseen=True) == [early], "it came later, so nobody was shown it"


async def test_only_an_own_notification_marks_the_older_ones(world):
    [first] = await notify(world, "a")
    [others] = await notify(world, "b", user="carol")
    for id_ in (others, new_id()):
        with pytest.raises(NotFound):
            await world.inbox.mark_seen("bob", id_)
    unseen = await world.inbox.page("bob", unseen=True, before=None, limit=9)
    assert first in [n.notification_id for n in unseen]


async def test_who_leaves_a_conversation_has_no_notifications_of_it(world):
    await world.conversations.add(world.room, "dave", by="alice")
    ids = await notify(world, "a", user="dave")
    assert [n.notification_id for n in await world.inbox.page("dave", unseen=False, before=None, limit=9)] == ids
    await world.conversations.remove(world.room, "dave", by="alice")
    assert await world.inbox.page("dave", unseen=False, before=None, limit=9) == []
