"""Invitations, standings and hidden history: the twins and PostgreSQL keep the same promises."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from adapters.memory.effects import MemoryNotifications
from adapters.memory.history import MemoryHistory
from adapters.memory.intake import MemoryConversations, MemoryIntake
from adapters.memory.invitations import MemoryInvitations
from adapters.memory.media import MemoryMedia
from adapters.memory.messages import MemoryMessages
from adapters.memory.notifications import MemoryInbox
from adapters.memory.search import MemorySearch
from adapters.memory.tables import Tables
from adapters.postgres.conversations import PostgresConversations
from adapters.postgres.history import PostgresHistory
from adapters.postgres.intake import PostgresIntake
from adapters.postgres.invitations import PostgresInvitations
from adapters.postgres.media import PostgresMedia
from adapters.postgres.messages import PostgresMessages
from adapters.postgres.notifications import PostgresNotifications
from adapters.postgres.pool import open_pool
from adapters.postgres.search import PostgresSearch
from domain.errors import Conflict, Forbidden, NotFound, Unavailable
from domain.history import Membership, Participant
from domain.media import Media, MediaInfo, inspected
from domain.notifications import NotificationDraft
from domain.policy import ACQUAINTED_MAX_MEMBERS, MAX_PER_INVITEE, Relation, Standing
from domain.search import Query
from domain.terms import parse
from schemas.ids import new_id
from schemas.messages import Message
from tests import make


@dataclass
class World:
    """The ports, and users whom no other test knows."""

    intake: Any
    conversations: Any
    invitations: Any
    history: Any
    messages: Any
    index: Any
    search: Any
    notifications: Any
    inbox: Any
    media: Any
    room: str
    mark: str

    def user(self, name: str) -> str:
        return f"{name}.{self.mark}"

    async def send(self, name: str, room: str | None = None, **more: Any) -> Message:
        draft = make.draft("hello", sender=self.user(name), conversationId=room or self.room, **more)
        [outcome] = await self.intake.accept([draft])
        message: Message = outcome.message
        return message

    async def relation(self, name: str, by: str = "owner", room: str | None = None) -> Relation:
        user = self.user(name)
        found: Relation = (await self.invitations.relations(self.user(by), [user], room or self.room))[user]
        return found

    async def invite(self, name: str, *, seen: Standing = Standing.STRANGER, **more: Any) -> None:
        await self.invitations.invite(self.room, self.user(name), self.user("owner"), seen=seen, **more)

    async def new_room(self, owner: str, *members: str, **more: Any) -> str:
        room = new_id()
        await self.conversations.create(room, "A room", self.user(owner), [self.user(m) for m in members], **more)
        return room

    async def kinds(self) -> list[str]:
        return [str(change.kind) for change in await self.history.changes(self.room, 0, 100, 100)]


@pytest.fixture(params=["memory", "postgres"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    mark = new_id()[-12:]
    if request.param == "memory":
        tables = Tables()
        index, notifications = MemorySearch(tables), MemoryNotifications(tables)
        made = World(
            MemoryIntake(tables),
            MemoryConversations(tables),
            MemoryInvitations(tables),
            MemoryHistory(tables),
            MemoryMessages(tables),
            index,
            index,
            notifications,
            MemoryInbox(notifications),
            MemoryMedia(tables),
            "",
            mark,
        )
        made.room = await made.new_room("owner", "member")
        yield made
        return
    async with open_pool(request.getfixturevalue("pg_dsn")) as pool:
        search, noticed = PostgresSearch(pool), PostgresNotifications(pool)
        made = World(
            PostgresIntake(pool),
            PostgresConversations(pool),
            PostgresInvitations(pool),
            PostgresHistory(pool),
            PostgresMessages(pool),
            search,
            search,
            noticed,
            noticed,
            PostgresMedia(pool),
            "",
            mark,
        )
        made.room = await made.new_room("owner", "member")
        yield made


async def test_an_invitation_becomes_a_membership_by_acceptance(world):
    await world.invite("victim")
    await world.invite("victim")
    assert (await world.relation("victim")).standing is Standing.INVITED
    assert await world.history.membership(world.room, world.user("victim")) is None
    assert await world.conversations.get(world.room, world.user("victim")) is None
    assert list((await world.conversations.get(world.room, world.user("owner"))).invited) == [world.user("victim")]
    [invitation] = await world.invitations.page(world.user("victim"), None, 10)
    assert (invitation.conversation_id, invitation.title) == (world.room, "A room")
    assert (invitation.invited_by, invitation.member_count) == (world.user("owner"), 2)
    for _ in range(2):
        await world.invitations.accept(world.room, world.user("victim"))
    assert (await world.relation("victim")).standing is Standing.MEMBER
    assert await world.invitations.page(world.user("victim"), None, 10) == []
    assert await world.kinds() == ["member_invited", "member_added"]
    added = (await world.history.changes(world.room, 1, 2, 1))[0]
    assert (added.data["userId"], added.data["by"]) == (world.user("victim"), world.user("victim"))


async def test_who_declines_is_remembered_for_the_inviter_alone(world):
    await world.invite("victim")
    assert await world.invitations.decline(world.room, world.user("victim")) is True
    assert await world.invitations.decline(world.room, world.user("victim")) is False
    relation = await world.relation("victim")
    assert (relation.standing, relation.declined) == (Standing.STRANGER, True)
    assert not (await world.relation("victim", by="member")).declined
    with pytest.raises(NotFound):
        await world.invitations.accept(world.room, world.user("victim"))
    assert await world.kinds() == ["member_invited", "invitation_ended"]


async def test_an_owner_withdraws_an_invitation_and_nobody_else_invites(world):
    await world.invite("victim")
    with pytest.raises(Forbidden):
        await world.conversations.remove(world.room, world.user("victim"), world.user("member"))
    for _ in range(2):
        await world.conversations.remove(world.room, world.user("victim"), world.user("owner"))
    assert (await world.relation("victim")).standing is Standing.STRANGER
    assert await world.kinds() == ["member_invited", "invitation_ended"]
    for by, error in (("member", Forbidden), ("stranger", NotFound), ("victim", NotFound)):
        with pytest.raises(error):
            await world.invitations.invite(world.room, world.user("another"), world.user(by), seen=Standing.STRANGER)


@pytest.mark.parametrize("room", ["nonsense", "01900000-0000-7000-8000-0000000000aa"])
async def test_an_invitation_to_nothing_is_none(world, room: str):
    with pytest.raises(NotFound):
        await world.invitations.accept(room, world.user("victim"))
    assert await world.invitations.decline(room, world.user("victim")) is False
    assert (await world.relation("victim", room=room)).standing is Standing.STRANGER


async def test_standings_of_who_was_a_member(world):
    await world.conversations.remove(world.room, world.user("member"), world.user("member"))
    assert (await world.relation("member")).standing is Standing.LEFT
    with pytest.raises(Unavailable):  # the policy was asked before
        await world.conversations.add(world.room, world.user("member"), world.user("owner"), seen=Standing.STRANGER)
    with pytest.raises(Unavailable):
        await world.invite("member", seen=Standing.STRANGER)
    await world.invite("member", seen=Standing.LEFT)
    assert (await world.relation("member")).standing is Standing.INVITED
    await world.conversations.remove(world.room, world.user("member"), world.user("owner"))
    assert (await world.relation("member")).standing is Standing.LEFT, "a withdrawn invitation changes nothing"
    await world.conversations.add(world.room, world.user("member"), world.user("owner"), seen=Standing.LEFT)
    await world.conversations.remove(world.room, world.user("member"), world.user("owner"))
    assert (await world.relation("member")).standing is Standing.REMOVED
    owner = await world.relation("owner")
    assert (owner.standing, owner.role) == (Standing.MEMBER, "owner")


async def test_an_addition_ends_an_open_invitation(world):
    await world.invite("victim")
    await world.conversations.add(world.room, world.user("victim"), world.user("owner"), seen=Standing.INVITED)
    assert await world.invitations.page(world.user("victim"), None, 10) == []
    assert (await world.relation("victim")).standing is Standing.MEMBER


async def test_invitations_at_the_creation_are_bounded_like_all_others(world):
    victims = [world.user(f"v{number}") for number in range(3)]
    room = await world.new_room("owner", invited=victims, most_invitations=3)
    assert list((await world.conversations.get(room, world.user("owner"))).invited) == victims
    with pytest.raises(Conflict, match="at most 3 "):
        await world.new_room("owner", invited=[world.user("v9")], most_invitations=3)
    with pytest.raises(Conflict, match="at most 3 "):
        await world.invite("v9", most=3)
    assert await world.kinds() == [], "what is refused leaves nothing"
    assert await world.invitations.decline(room, victims[0])
    await world.invite("v9", most=3)


async def test_invitations_to_one_user_are_bounded(world):
    for _ in range(MAX_PER_INVITEE):
        await world.new_room("owner", invited=[world.user("victim")])
    with pytest.raises(Conflict, match="same user"):
        await world.invite("victim")


async def test_open_invitations_come_in_pages_newest_first(world):
    rooms = [await world.new_room(f"o{number}", invited=[world.user("victim")]) for number in range(5)]
    seen: list[str] = []
    before = None
    while page := await world.invitations.page(world.user("victim"), before, 2):
        assert len(page) <= 2
        seen += [invitation.conversation_id for invitation in page]
        before = (page[-1].at, page[-1].conversation_id)
    assert seen == rooms[::-1]


async def test_an_acquaintance_has_written_where_both_are_members(world):
    assert not (await world.relation("member")).acquainted
    await world.send("owner")
    assert not (await world.relation("member")).acquainted, "being written to makes nobody an acquaintance"
    assert (await world.relation("owner", by="member")).acquainted
    await world.send("member")
    assert (await world.relation("member")).acquainted
    elsewhere = await world.new_room("owner", "other")
    assert (await world.relation("member", room=elsewhere)).acquainted
    assert not (await world.relation("member", by="other", room=elsewhere)).acquainted
    await world.conversations.remove(world.room, world.user("member"), world.user("member"))
    assert not (await world.relation("member")).acquainted, "who left has ended it"
    await world.conversations.add(world.room, world.user("member"), world.user("owner"))
    assert not (await world.relation("member")).acquainted, "and begins anew"


async def test_a_large_conversation_makes_no_acquaintances(world):
    crowd = [f"c{number}" for number in range(ACQUAINTED_MAX_MEMBERS)]
    room = await world.new_room("host", *crowd)
    await world.send("c1", room)
    assert not (await world.relation("c1", by="host")).acquainted
    await world.conversations.remove(room, world.user("c2"), world.user("c2"))
    assert (await world.relation("c1", by="host")).acquainted


async def test_participants_say_who_has_written_in_this_conversation(world):
    await world.send("member")
    owner, member = world.user("owner"), world.user("member")
    expected = [Participant(world.room, member, True), Participant(world.room, owner, False)]
    assert list(await world.history.participants(world.room, 10)) == expected
    assert list(await world.history.participants(world.room, 1)) == expected[:1]
    assert list(await world.history.small_conversations(member, 2)) == expected[:1]
    assert list(await world.history.small_conversations(owner, 2)) == expected[1:]


async def test_the_same_creation_again_is_found_and_anything_else_is_a_conflict(world):
    owner, member = world.user("owner"), world.user("member")
    room = new_id()
    assert await world.conversations.create(room, "T", owner, [member], request_hash=b"one") is True
    assert await world.conversations.create(room, "T", owner, [member], request_hash=b"one") is False
    await world.conversations.remove(room, member, member)
    assert await world.conversations.create(room, "T", owner, [member], request_hash=b"one") is False
    assert (await world.relation("member", room=room)).standing is Standing.LEFT, "nobody is taken back by a repeat"
    texts = set()
    for user, hash_ in ((owner, b"two"), (owner, b""), (member, b"one"), (world.user("stranger"), b"one")):
        with pytest.raises(Conflict) as caught:
            await world.conversations.create(room, "T", user, [], request_hash=hash_)
        texts.add(str(caught.value))
    assert len(texts) == 1


async def test_what_was_said_before_is_hidden_from_who_may_not_read_it(world):
    before = await world.send("owner")
    await world.index.refresh([before.message_id])
    media_id = new_id()
    upload = Media(
        media_id=media_id, owner_id=world.user("owner"), file_name="x", declared_type="x/y", size=1, sha256=new_id()
    )
    await world.media.add(upload)
    attached = await world.send("owner", attachments=[media_id])
    await world.media.ready(attached, inspected(upload, MediaInfo(media_type="x/y")))
    for name, reads_older in (("late", False), ("guest", True)):
        await world.conversations.add(world.room, world.user(name), world.user("owner"), reads_older=reads_older)
    late, guest = world.user("late"), world.user("guest")
    membership = await world.history.membership(world.room, late)
    assert membership == Membership(since=4, hidden_up_to=3)
    assert await world.history.membership(world.room, guest) == Membership(since=5, hidden_up_to=0)

    async def readable(user: str) -> list[bool]:
        hidden = (await world.history.membership(world.room, user)).hidden_up_to
        [line] = await world.conversations.mine(user, None, 10)
        return [
            bool(await world.messages.page(world.room, None, None, 10, hidden)),
            bool(await world.messages.page(world.room, 0, None, 10, hidden)),
            await world.messages.one(before.message_id, user) is not None,
            bool(await world.search.search(user, Query(terms=parse("hello")), limit=5)),
            await world.media.may_read(media_id, user),
            line.last_message is not None,
        ]

    async def waiting(user: str) -> tuple[int, int, int]:
        [line] = await world.conversations.mine(user, None, 10)
        return (
            line.unread,
            (await world.conversations.unread(user)).messages,
            len(await world.inbox.page(user, unseen=False, before=None, limit=9)),
        )

    drafts = [NotificationDraft(new_id(), before.message_id, world.room, before.seq, user) for user in (late, guest)]
    await world.notifications.add(drafts)
    assert await readable(late) == [False] * 6
    assert await readable(guest) == [True] * 6
    assert await waiting(late) == await waiting(guest) == (0, 0, 0), "nothing waits from before a member has joined"
    audience = (await world.notifications.audiences({world.room: before.seq}, 64))[world.room]
    assert audience.delivered == {world.user("member"): 0}, "nor is anything from before notified"
    after = await world.send("owner")
    assert await waiting(late) == await waiting(guest) == (1, 1, 0)
    await world.index.refresh([after.message_id])
    for user in (late, guest):
        assert await world.messages.one(after.message_id, user) is not None
        assert after.message_id in {
            hit.message_id for hit in await world.search.search(user, Query(terms=parse("hello")), limit=5)
        }
    page = await world.messages.page(world.room, None, None, 10, membership.hidden_up_to)
    assert [message.seq for message in page] == [after.seq]


async def test_who_accepts_may_be_kept_from_what_was_said_before(world):
    await world.send("owner")
    await world.invite("victim")
    await world.invitations.accept(world.room, world.user("victim"), reads_older=False)
    assert await world.history.membership(world.room, world.user("victim")) == Membership(since=3, hidden_up_to=2)
