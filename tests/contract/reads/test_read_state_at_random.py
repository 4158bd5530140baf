"""Unread counts, answers and notifications at random: two stores beside a reader who counts the whole log."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from domain.notifications import NotificationDraft
from domain.watermarks import Watermark
from schemas.events import MessageStatus, ReceiptRecorded
from schemas.ids import new_id
from schemas.messages import Message
from streams.stages.status import HandleStatus
from tests import make
from tests.contract.reads.conftest import World, memory, postgres

OWNER, OTHERS = "alice", ("bob", "carol", "dave")
USERS = (OWNER, *OTHERS)
Step = tuple[str, str, int]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.sampled_from(USERS), st.integers(1, 3)),
        st.tuples(st.just("read"), st.sampled_from(USERS), st.integers(0, 3)),
        st.tuples(st.sampled_from(["join", "leave"]), st.sampled_from(OTHERS), st.integers(0, 1)),
        st.tuples(st.just("work"), st.just(OWNER), st.just(0)),
    ),
    max_size=25,
)


@dataclass
class Naive:
    """The whole log, and how far each has read: by a receipt, by answering, or by joining."""

    log: list[str | None] = field(default_factory=list)
    """The sender of the message at each seq; None for another change."""
    members: set[str] = field(default_factory=lambda: {OWNER, "bob"})
    read: dict[str, int] = field(default_factory=dict)
    notified: dict[str, set[int]] = field(default_factory=dict)

    def unread(self, user: str) -> list[int]:
        read = self.read.get(user, 0)
        return [seq for seq, sender in enumerate(self.log, 1) if sender is not None and seq > read]

    def raise_read(self, user: str, seq: int) -> None:
        self.read[user] = max(self.read.get(user, 0), seq)


@dataclass
class Run:
    """Sequence of steps in a store."""

    world: World
    users: dict[str, str]
    naive: Naive = field(default_factory=Naive)
    stored: list[Message] = field(default_factory=list)
    fresh: list[Message] = field(default_factory=list)

    async def step(self, kind: str, user: str, number: int) -> None:
        naive, head = self.naive, len(self.naive.log)
        is_member = user in naive.members
        if kind == "send" and is_member:
            await self.send(user, number)
        elif kind == "read" and is_member and head:
            seq = max(1, head - number)
            await self.world.statuses.advance([Watermark(self.world.room, self.users[user], seq, seq)], 32)
            naive.raise_read(user, seq)
        elif kind == "join" and not is_member:
            await self.world.conversations.add(
                self.world.room, self.users[user], self.users[OWNER], reads_older=bool(number)
            )
            naive.log.append(None)
            naive.members.add(user)
            naive.raise_read(user, head + 1)
        elif kind == "leave" and is_member:
            await self.world.conversations.remove(self.world.room, self.users[user], self.users[OWNER])
            naive.log.append(None)
            naive.members.remove(user)
        elif kind == "work":
            await self.work()

    async def send(self, user: str, count: int) -> None:
        drafts = [make.draft(conversationId=self.world.room, sender=self.users[user]) for _ in range(count)]
        new = [outcome.message for outcome in await self.world.intake.accept(drafts)]
        self.fresh += new
        self.naive.log += [user] * count
        self.naive.raise_read(user, len(self.naive.log))

    async def work(self) -> None:
        """The stages: messages become sent, answers become receipts, who is away is notified."""
        stage, fresh = HandleStatus(self.world.statuses), self.fresh
        self.stored, self.fresh = [*self.stored, *fresh], []
        outcome = await stage([make.created_of(message) for message in fresh])
        receipts = [event for event in outcome if isinstance(event, ReceiptRecorded)]
        for event in await stage(receipts):
            assert isinstance(event, MessageStatus) or self.left(event.event.user_id), event
        for message in fresh:
            drafts = [
                NotificationDraft(new_id(), message.message_id, self.world.room, message.seq, id_)
                for user, id_ in self.users.items()
                if id_ != message.sender_id
            ]
            await self.world.notifications.add(drafts)
            for user in self.naive.members:
                if message.seq in self.naive.unread(user):
                    self.naive.notified.setdefault(user, set()).add(message.seq)

    def left(self, user_id: str) -> bool:
        return user_id not in {self.users[user] for user in self.naive.members}

    async def check(self) -> None:
        for user in self.naive.members:
            id_, unread = self.users[user], self.naive.unread(user)
            [line] = await self.world.conversations.mine(id_, None, 5)
            assert (line.unread, line.my_read_seq) == (len(unread), self.naive.read.get(user, 0)), user
            total = await self.world.conversations.unread(id_)
            assert (total.messages, total.conversations) == (len(unread), bool(unread))
            opened = await self.world.inbox.page(id_, unseen=True, before=None, limit=200)
            wanted = self.naive.notified.get(user, set()) & set(unread)
            assert sorted(n.message.seq for n in opened) == sorted(wanted), user
            listed = await self.world.inbox.page(id_, unseen=False, before=None, limit=200)
            assert [n.notification_id for n in listed if n.seen_at is None] == [n.notification_id for n in opened]
        await self.check_statuses()

    async def check_statuses(self) -> None:
        """Check that everything answered that the stage has seen is read, where nobody came or left."""
        if None in self.naive.log:
            return
        found = await self.world.messages.find([message.message_id for message in self.stored])
        for message in self.stored:
            if any(m.sender_id != message.sender_id and m.seq > message.seq for m in self.stored):
                assert found[message.message_id].status == "read"


async def run(world: World, steps: list[Step]) -> None:
    users = {user: f"{user}-{new_id()[-12:]}" for user in USERS}
    await world.conversations.create(world.room, None, users[OWNER], [users["bob"]])
    each = Run(world, users)
    for step in [*steps, ("work", OWNER, 0)]:
        await each.step(*step)
        await each.check()


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_the_twin_counts_what_a_naive_reader_counts(steps: list[Step]):
    async def replay() -> None:
        async with memory() as world:
            await run(world, steps)

    asyncio.run(replay())


def test_postgresql_counts_what_a_naive_reader_counts(pg_dsn: str):
    """On one pool, since a new one for each example costs more than the example."""
    with asyncio.Runner() as runner:
        opened = postgres(pg_dsn)
        world = runner.run(opened.__aenter__())

        @settings(max_examples=15, deadline=None)
        @given(STEPS)
        def examples(steps: list[Step]) -> None:
            world.room = new_id()
            runner.run(run(world, steps))

        try:
            examples()
        finally:
            runner.run(opened.__aexit__(None, None, None))
