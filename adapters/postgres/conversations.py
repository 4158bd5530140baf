"""Conversations and members in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from adapters.postgres import change_log, rows
from adapters.postgres.pool import Connection, Pool, connection, transaction
from adapters.postgres.statements import load
from domain.changes import OutboxEntry, created_event, membership_entry
from domain.conversations import Conversation, Member, Summary, check_change
from domain.errors import Conflict, NotFound
from schemas.clock import now, wire_time
from schemas.fields import MAX_MEMBERS
from schemas.ids import is_uuid
from schemas.messages import ChangeKind

_SQL = load("conversations")


@dataclass(frozen=True, slots=True)
class PostgresConversations:
    """Conversations in PostgreSQL. Every change holds the row lock that gives seqs."""

    pool: Pool

    async def create(self, conversation_id: str, title: str | None, owner: str, members: Sequence[str]) -> None:
        everybody = sorted({owner, *members})
        fields = {"conversation_id": conversation_id, "owner": owner}
        async with transaction(self.pool) as conn:
            made = await conn.execute(_SQL["create"], {**fields, "title": title, "count": len(everybody)})
            if made.rowcount == 0:
                raise Conflict("this conversationId is taken; use another, or leave it out")
            await conn.execute(_SQL["create_members"], {**fields, "members": everybody})
            event = created_event(conversation_id, title, owner, tuple(everybody), now())
            await change_log.owe(conn, [OutboxEntry(0, event)])

    async def add(self, conversation_id: str, user_id: str, by: str) -> None:
        await self._change(ChangeKind.MEMBER_ADDED, conversation_id, user_id, by)

    async def remove(self, conversation_id: str, user_id: str, by: str) -> None:
        await self._change(ChangeKind.MEMBER_REMOVED, conversation_id, user_id, by)

    async def _change(self, kind: ChangeKind, conversation_id: str, user_id: str, by: str) -> None:
        if not is_uuid(conversation_id):
            raise NotFound("no such conversation")
        adding = kind is ChangeKind.MEMBER_ADDED
        async with transaction(self.pool) as conn:
            head = await change_log.lock(conn, conversation_id)
            role = await (await conn.execute(_SQL["role"], {"conversation_id": conversation_id, "by": by})).fetchone()
            check_change(kind, role[0] if role else None, user_id=user_id, by=by)
            assert head is not None, "a conversation with a member exists"
            membership = {"conversation_id": conversation_id, "user_id": user_id, "seq": head + 1}
            changed = await conn.execute(_SQL["add_member" if adding else "remove_member"], membership)
            if changed.rowcount == 0:
                return
            await _count_member(conn, conversation_id, 1 if adding else -1)
            at = datetime.now(UTC)
            entry = membership_entry(kind, conversation_id, head + 1, user=user_id, by=by, at=wire_time(at))
            await change_log.append(conn, [entry], at)

    async def get(self, conversation_id: str, user_id: str) -> Conversation | None:
        if not is_uuid(conversation_id):
            return None
        found = await self._all("get", {"conversation_id": conversation_id, "user_id": user_id})
        if not found:
            return None
        id_, title, head, *columns = found[0]
        members = [
            Member(user_id=user, role=role, delivered_seq=delivered, read_seq=read)
            for user, role, delivered, read in zip(*columns, strict=True)
        ]
        return Conversation(conversation_id=id_, title=title, head_seq=head, members=members)

    async def mine(self, user_id: str, before: tuple[datetime, str] | None, limit: int) -> Sequence[Summary]:
        at, id_ = before or (None, None)
        params = {"user_id": user_id, "before_at": at, "before_id": id_, "limit": limit}
        return [
            Summary(
                conversation_id=row[0],
                title=row[1],
                head_seq=row[2],
                last_at=row[3],
                my_read_seq=row[4],
                unread=row[5],
                last_message=rows.message(row[6:]) if row[6] else None,
            )
            for row in await self._all("mine", params)
        ]

    async def _all(self, name: str, params: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        async with connection(self.pool) as conn:
            return await (await conn.execute(_SQL[name], params)).fetchall()


async def _count_member(conn: Connection, conversation_id: str, delta: int) -> None:
    fields = {"conversation_id": conversation_id, "delta": delta, "max": MAX_MEMBERS}
    counted = await conn.execute(_SQL["count_member"], fields)
    if counted.rowcount == 0:
        raise Conflict(f"the conversation is full: it has {MAX_MEMBERS} members")
