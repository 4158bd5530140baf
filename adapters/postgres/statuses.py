"""Statuses and watermarks in PostgreSQL: forward only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from adapters.postgres import rows
from adapters.postgres.pool import Connection, Pool, connection, transaction
from adapters.postgres.statements import load
from domain.watermarks import (
    DEVICES_PER_MEMBER,
    Advances,
    Marked,
    Watermark,
    WatermarkAdvance,
    of_members,
    split,
    step,
)
from schemas.messages import Message, Status

_SQL = load("statuses")


@dataclass(frozen=True, slots=True)
class _Range:
    """Advance of a member's watermark for one status: from ``start`` (exclusive) to ``end``."""

    conversation_id: str
    user_id: str
    members: int
    status: Status
    start: int
    end: int
    delivered_seq: int
    read_seq: int

    @property
    def key(self) -> tuple[str, str]:
        return self.conversation_id, self.user_id


@dataclass(frozen=True, slots=True)
class PostgresStatuses:
    """Statuses in PostgreSQL. A batch is one transaction."""

    pool: Pool
    devices: int = DEVICES_PER_MEMBER

    async def mark_sent(self, claimed: Sequence[Message]) -> Marked:
        columns = {
            "ids": [message.message_id for message in claimed],
            "conversations": [message.conversation_id for message in claimed],
            "seqs": [message.seq for message in claimed],
        }
        async with connection(self.pool) as conn:
            cursor = await conn.execute(_SQL["mark_sent"], columns)
            found = await cursor.fetchall()
        return Marked({row[0]: rows.message(row) for row in found}, {row[0] for row in found if row[-1]})

    async def sent(self, message_ids: Sequence[str]) -> Collection[str]:
        if not message_ids:
            return ()
        async with connection(self.pool) as conn:
            cursor = await conn.execute(_SQL["sent"], {"ids": list(message_ids)})
            return {row[0] for row in await cursor.fetchall()}

    async def watermarks(self, members: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], tuple[int, int]]:
        if not members:
            return {}
        columns = {"conversations": [c for c, _ in members], "users": [u for _, u in members]}
        async with connection(self.pool) as conn:
            cursor = await conn.execute(_SQL["watermarks"], columns)
            return {(row[0], row[1]): (row[2], row[3]) for row in await cursor.fetchall()}

    async def advance(self, marks: Sequence[Watermark], everybody_up_to: int) -> Advances:
        async with transaction(self.pool) as conn:
            possible, refused = split(marks, await _raise_devices(conn, marks, self.devices))
            ranges, unfinished = await _raise_watermarks(conn, of_members(possible))
            advances: list[WatermarkAdvance] = []
            for status in (Status.DELIVERED, Status.READ):
                advances += await _raise_statuses(
                    conn, [r for r in ranges if r.status is status], status, everybody_up_to
                )
            await _close_notifications(conn, [r for r in ranges if r.status is Status.READ])
        return Advances(advances, refused, unfinished)


def _given(marks: Sequence[Watermark]) -> dict[str, list[str] | list[int]]:
    return {
        "conversations": [m.conversation_id for m in marks],
        "users": [m.user_id for m in marks],
        "delivered": [m.delivered_seq for m in marks],
        "reads": [m.read_seq for m in marks],
    }


async def _raise_devices(conn: Connection, marks: Sequence[Watermark], kept: int) -> dict[tuple[str, str], int]:
    """Raise the watermarks of devices; return the heads of the members' conversations, for the rest."""
    cursor = await conn.execute(_SQL["raise_devices"], {**_given(marks), "devices": [m.device for m in marks]})
    members = await cursor.fetchall()
    if grown := [(conversation, user) for conversation, user, _, is_new in members if is_new]:
        conversations, users = zip(*grown, strict=True)
        ids = {"conversations": list(conversations), "users": list(users)}
        await conn.execute(_SQL["forget_devices"], {**ids, "devices": kept})
    return {(conversation, user): head for conversation, user, head, _ in members}


async def _raise_watermarks(conn: Connection, marks: Sequence[Watermark]) -> tuple[list[_Range], set[tuple[str, str]]]:
    """Raise the watermarks of members; return how far, and those whose marks lead further."""
    ranges, unfinished = list[_Range](), set[tuple[str, str]]()
    if not marks:
        return ranges, unfinished
    cursor = await conn.execute(_SQL["raise_watermarks"], {**_given(marks), "step": step(len(marks))})
    for row in await cursor.fetchall():
        conversation, user, members, old_delivered, delivered, old_read, read, falls_short = row
        if falls_short:
            unfinished.add((conversation, user))
        if delivered > old_delivered or read == old_read:
            # A repeated watermark covers its last message again, so that the sender gets its status again.
            start = min(old_delivered, delivered - 1)
            ranges.append(_Range(conversation, user, members, Status.DELIVERED, start, delivered, delivered, read))
        if read > old_read or (read > 0 and delivered == old_delivered):
            start = min(old_read, read - 1)
            ranges.append(_Range(conversation, user, members, Status.READ, start, read, delivered, read))
    return ranges, unfinished


async def _raise_statuses(
    conn: Connection, ranges: Sequence[_Range], status: Status, everybody_up_to: int
) -> list[WatermarkAdvance]:
    if not ranges:
        return []
    messages: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    senders: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    raised = await conn.execute(_SQL["raise_statuses"], {**_columns(ranges), "status": int(status)})
    for conversation, user, message_id, sender in await raised.fetchall():
        messages[conversation, user].append(message_id)
        senders[conversation, user].add(sender)
    small = [r for r in ranges if r.members <= everybody_up_to]
    if small:
        found = await conn.execute(_SQL["senders"], _columns(small))
        for conversation, user, sender in await found.fetchall():
            senders[conversation, user].add(sender)
    return [
        WatermarkAdvance(
            conversation_id=r.conversation_id,
            user_id=r.user_id,
            status=status,
            seq=r.end,
            delivered_seq=r.delivered_seq,
            read_seq=r.read_seq,
            message_ids=tuple(messages[r.key]),
            notify=tuple(sorted(senders[r.key])),
        )
        for r in ranges
        if senders[r.key] or status is Status.READ  # the other devices of a reader want to know, if nobody else does
    ]


async def _close_notifications(conn: Connection, ranges: Sequence[_Range]) -> None:
    if ranges:
        await conn.execute(_SQL["close_notifications"], _columns(ranges))


def _columns(ranges: Sequence[_Range]) -> dict[str, list[str] | list[int]]:
    return {
        "conversations": [r.conversation_id for r in ranges],
        "users": [r.user_id for r in ranges],
        "starts": [r.start for r in ranges],
        "ends": [r.end for r in ranges],
    }
