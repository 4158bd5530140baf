"""Watermarks and statuses only move forward, whatever comes, however often and in whatever order."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from adapters.memory.effects import MemoryStatuses
from adapters.memory.intake import MemoryConversations, MemoryIntake
from adapters.memory.tables import Tables
from domain.watermarks import Watermark
from schemas.events import ReceiptRecorded
from schemas.messages import Status
from streams.stages.status import watermarks_of
from tests import make

MEMBERS, DEVICES = ("alice", "bob", "carol"), ("phone", "desk", "-")
RANK = {status.wire: status for status in Status}


class Watermarks(RuleBasedStateMachine):
    """Messages, batches of receipts from devices, repetitions of old batches."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = Tables()
        self.conversations = MemoryConversations(self.tables)
        self.statuses = MemoryStatuses(self.tables)
        asyncio.run(self.conversations.create(make.ROOM, None, "alice", MEMBERS[1:]))
        self.batches: list[list[Watermark]] = []
        self.expected: defaultdict[tuple[str, str], tuple[int, int]] = defaultdict(lambda: (0, 0))
        self.before: dict[str, Status] = {}

    @property
    def head(self) -> int:
        return self.tables.conversations[make.ROOM].last_seq

    @rule(sender=st.sampled_from(MEMBERS), count=st.integers(1, 5))
    def send(self, sender: str, count: int) -> None:
        asyncio.run(MemoryIntake(self.tables).accept([make.draft(sender=sender) for _ in range(count)]))

    @rule()
    def mark_sent(self) -> None:
        asyncio.run(self.statuses.mark_sent(list(self.tables.messages.values())))

    @rule(
        said=st.lists(
            st.tuples(st.sampled_from(MEMBERS), st.sampled_from(DEVICES), st.integers(0, 8), st.integers(0, 8)),
            min_size=1,
            max_size=3,
        )
    )
    def receipts(self, said: list[tuple[str, str, int, int]]) -> None:
        events = [
            ReceiptRecorded(
                conversation_id=make.ROOM,
                user_id=user,
                delivered_seq=delivered,
                read_seq=read,
                at=make.AT,
                device=device,
            )
            for user, device, delivered, read in said
        ]
        self.batches.append(watermarks_of(events))
        self.advance(self.batches[-1])

    @precondition(lambda self: self.batches)
    @rule(data=st.data())
    def again(self, data: st.DataObject) -> None:
        self.advance(data.draw(st.sampled_from(self.batches)))

    def advance(self, marks: list[Watermark]) -> None:
        moved = asyncio.run(self.statuses.advance(marks, 32))
        assert not moved.unfinished
        for mark in marks:
            if mark.delivered_seq > self.head:
                continue
            delivered, read = self.expected[mark.user_id, mark.device]
            self.expected[mark.user_id, mark.device] = max(delivered, mark.delivered_seq), max(read, mark.read_seq)

    @invariant()
    def each_device_has_its_furthest_and_the_member_the_maximum(self) -> None:
        for (user, device), seqs in self.expected.items():
            assert self.tables.device_receipts.get((make.ROOM, user, device), (0, 0)) == seqs
        for user in MEMBERS:
            mine = [seqs for (who, _), seqs in self.expected.items() if who == user] or [(0, 0)]
            watermark = self.tables.receipts.get((make.ROOM, user), (0, 0))
            assert watermark == (max(d for d, _ in mine), max(r for _, r in mine))
            assert watermark[1] <= watermark[0] <= self.head

    @invariant()
    def statuses_only_rise_and_say_what_the_watermarks_say(self) -> None:
        for message in self.tables.messages.values():
            status = RANK[message.status]
            assert status >= self.before.get(message.message_id, Status.PENDING)
            self.before[message.message_id] = status
            others = [self.tables.receipts.get((make.ROOM, u), (0, 0)) for u in MEMBERS if u != message.sender_id]
            assert (status >= Status.DELIVERED) == any(delivered >= message.seq for delivered, _ in others)
            assert (status == Status.READ) == any(read >= message.seq for _, read in others)

    @invariant()
    def unread_is_what_others_said_beyond_the_own_watermark_and_the_own_last_message(self) -> None:
        for user in MEMBERS:
            messages = self.tables.messages.values()
            _, read = self.tables.receipts.get((make.ROOM, user), (0, 0))
            read = max([read, *(m.seq for m in messages if m.sender_id == user)])
            [mine] = asyncio.run(self.conversations.mine(user, None, 10))
            assert (mine.unread, mine.my_read_seq) == (sum(m.seq > read for m in messages), read)


TestWatermarks = Watermarks.TestCase
TestWatermarks.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
