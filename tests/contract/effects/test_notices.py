"""Notifications: the twin and PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection

from domain.notifications import Audience, NotificationDraft
from schemas.ids import new_id


async def test_a_notice_is_stored_once_for_each_recipient(world):
    message = await world.send()

    def notice(user: str) -> NotificationDraft:
        return NotificationDraft(new_id(), message.message_id, world.room, message.seq, user)

    async def add(*users: str) -> list[NotificationDraft]:
        await world.notifications.add([notice(user) for user in users])
        return list(await world.notifications.stored([message.message_id]))

    first = await add("bob", "carol")
    assert [n.user_id for n in first] == ["bob", "carol"]
    assert first == await add("bob") == await add("carol", "carol", "bob")
    assert await world.notifications.stored([new_id()]) == []


async def test_those_may_be_notified_to_whom_not_all_was_delivered(world):
    for _ in range(3):
        await world.send()
    await world.fold("bob", 2)
    await world.fold("carol", 3)
    audiences = await world.notifications.audiences({world.room: 3, new_id(): 1}, 64)
    assert audiences == {world.room: Audience({"bob": 2}, collapsed=False)}
    assert await world.notifications.member_counts([world.room, new_id()]) == {world.room: 3}


async def test_in_a_large_conversation_nobody_has_two_open_notifications(world):
    first, second, third = [await world.send() for _ in range(3)]
    id_ = new_id()

    async def audience(most: int = 2) -> list[str]:
        found = await world.notifications.audiences({world.room: 3}, most)
        return sorted(found[world.room].delivered)

    assert await audience() == ["bob", "carol"]
    await world.notifications.add([NotificationDraft(id_, first.message_id, world.room, 1, "bob")])
    assert (await audience(), await audience(3)) == (["carol"], ["bob", "carol"])
    assert (await world.notifications.audiences({world.room: 3}, 2))[world.room].collapsed
    await world.inbox.mark_seen("bob", id_)
    assert await audience() == ["bob", "carol"]
    await world.notifications.add([NotificationDraft(new_id(), second.message_id, world.room, 2, "bob")])
    assert await audience() == ["carol"]
    await world.fold("bob", 2)  # on another device, where nobody looks at notifications
    assert await audience() == ["bob", "carol"]
    await world.notifications.add([NotificationDraft(new_id(), third.message_id, world.room, 3, "bob")])
    assert await audience() == ["carol"]


async def test_who_has_an_open_notification_of_a_large_conversation_gets_no_other(world):
    messages = [await world.send() for _ in range(3)]

    async def add(nth: int, *users: str) -> None:
        drafts = [NotificationDraft(new_id(), messages[nth].message_id, world.room, nth + 1, user) for user in users]
        await world.notifications.add(drafts, [world.room])

    async def notified() -> list[tuple[int, str]]:
        return [(n.seq, n.user_id) for n in await world.notifications.stored([m.message_id for m in messages])]

    await add(0, "bob")
    await add(1, "bob", "carol")
    assert await notified() == [(1, "bob"), (2, "carol")]
    await world.fold("bob", 1)
    await add(2, "bob", "carol")
    assert await notified() == [(1, "bob"), (2, "carol"), (3, "bob")]


async def test_an_event_of_a_notification_is_written_until_the_log_has_it_and_told_once(world):
    message = await world.send()
    ids, notices = [message.message_id], world.notifications
    first = NotificationDraft(new_id(), message.message_id, world.room, 1, "bob")

    async def missing() -> Collection[str]:
        return (await notices.unpublished(ids)).ids

    await notices.add([first])
    epoch = (await notices.unpublished(ids)).epoch
    assert await notices.told(ids) == set()
    assert await missing() == {first.notification_id}  # a crash before the mark: it is written again
    later = NotificationDraft(new_id(), message.message_id, world.room, 1, "carol")
    await notices.add([later])  # by another, while the first one's event is on its way
    await notices.note_published([first.notification_id], epoch)
    assert await missing() == {later.notification_id}
    assert await notices.told(ids) == {f"{message.message_id}:bob:in_app"}
    await notices.note_published([later.notification_id], epoch)
    assert await missing() == set()
    await notices.note_published([first.notification_id], epoch)  # late news
    assert await missing() == set()
    assert await notices.told(ids) == {f"{message.message_id}:{user}:in_app" for user in ("bob", "carol")}


async def test_a_log_that_is_lost_while_an_event_is_written_leaves_no_earlier_one_noted(world):
    """The new log has the event, and not those that were in the old one: to it all of the message are missing."""
    message = await world.send()
    ids, notices = [message.message_id], world.notifications
    first, later = (NotificationDraft(new_id(), message.message_id, world.room, 1, user) for user in ("bob", "carol"))
    await notices.add([first])
    before = (await notices.unpublished(ids)).epoch
    await notices.note_published([first.notification_id], before)
    await notices.add([later])
    assert (await notices.unpublished(ids)).ids == {later.notification_id}
    epoch = await world.lose_the_log()
    await notices.note_published([later.notification_id], before)
    missing = await notices.unpublished(ids)
    assert (missing.ids, missing.epoch) == ({first.notification_id, later.notification_id}, epoch)
    await notices.note_published(sorted(missing.ids), epoch)
    await notices.note_published([later.notification_id], before)  # late news of the old log
    assert (await notices.unpublished(ids)).ids == set()
