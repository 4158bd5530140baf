"""Conversations and members in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from adapters.postgres import rows
from adapters.postgres.pool import Connection, Pool, connection, transaction
from adapters.postgres.statements import load
from domain.conversations import MAX_MEMBERS, Conversation, Member, Summary, check_change
from domain.errors import Conflict, NotFound
from schemas.clock import now
from schemas.codec import record
from schemas.events import ConversationChange, ConversationChanged
from schemas.frames import membership_data
from schemas.ids import is_uuid, outbox_shard
from schemas.messages import ChangeKind

_SQL = load("conversations")
_PRODUCER = "millrace/ingest"


@dataclass(frozen=True, slots=True)
class PostgresConversations:
    """Conversations. Every change holds the row lock that gives seqs."""

    pool: Pool

    async def create(self, conversation_id: str, title: str | None, owner: str, members: Sequence[str]) -> None:
        everybody = sorted({owner, *members})
        fields = {"conversation_id": conversation_id, "owner": owner}
        async with transaction(self.pool) as conn:
            made = await conn.execute(_SQL["create"], {**fields, "title": title, "count": len(everybody)})
            if made.rowcount == 0:
                raise Conflict("this conversationId is taken; use another, or leave it out")
            await conn.execute(_SQL["create_members"], {**fields, "members": everybody})
            event = ConversationChanged(
                conversation_id=conversation_id,
                seq=0,
                change=ConversationChange.CREATED,
                user_id=owner,
                by=owner,
                at=now(),
                title=title,
                members=tuple(everybody),
            )
            await _owe(conn, event)

    async def add(self, conversation_id: str, user_id: str, by: str) -> None:
        await self._change(ChangeKind.MEMBER_ADDED, conversation_id, user_id, by)

    async def remove(self, conversation_id: str, user_id: str, by: str) -> None:
        await self._change(ChangeKind.MEMBER_REMOVED, conversation_id, user_id, by)

    async def _change(self, kind: ChangeKind, conversation_id: str, user_id: str, by: str) -> None:
        if not is_uuid(conversation_id):
            raise NotFound("no such conversation")
        adding = kind is ChangeKind.MEMBER_ADDED
        async with transaction(self.pool) as conn:
            cursor = await conn.execute(_SQL["lock"], {"conversation_id": conversation_id, "by": by})
            found = await cursor.fetchone()
            head, role = found or (0, None)
            check_change(kind, role, user_id=user_id, by=by)
            who = {"conversation_id": conversation_id, "user_id": user_id, "seq": head + 1}
            changed = await conn.execute(_SQL["add_member" if adding else "remove_member"], who)
            if changed.rowcount == 0:
                return
            event = ConversationChanged(
                conversation_id=conversation_id,
                seq=head + 1,
                change=ConversationChange(kind),
                user_id=user_id,
                by=by,
                at=now(),
            )
            await _log_change(conn, event, 1 if adding else -1)

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


async def _log_change(conn: Connection, event: ConversationChanged, delta: int) -> None:
    place = {"conversation_id": event.conversation_id, "seq": event.seq}
    raised = await conn.execute(_SQL["raise_head"], {**place, "delta": delta, "max": MAX_MEMBERS})
    if raised.rowcount == 0:
        raise Conflict(f"the conversation is full: it has {MAX_MEMBERS} members")
    data = orjson.dumps(membership_data(event.user_id, event.by, event.at)).decode()
    await conn.execute(_SQL["insert_change"], {**place, "kind": event.change, "data": data})
    await _owe(conn, event)


async def _owe(conn: Connection, event: ConversationChanged) -> None:
    await conn.execute(
        _SQL["insert_outbox"],
        {
            "conversation_id": event.conversation_id,
            "seq": event.seq,
            "shard": outbox_shard(event.conversation_id),
            "topic": event.TOPIC,
            "value": record(event, producer=_PRODUCER).value,
            "event_id": event.event_id,
        },
    )
