"""Conversations and members in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from adapters.postgres import change_log, memberships, rows
from adapters.postgres.pool import Pool, transaction
from adapters.postgres.replica import Replica, read, rows_of
from adapters.postgres.statements import load
from domain.changes import OutboxEntry, created_event
from domain.conversations import NO_CONVERSATION, Conversation, IdTaken, Member, Summary, Unread, check_seen
from domain.errors import NotFound
from domain.policy import Standing
from schemas.clock import now
from schemas.ids import is_uuid
from schemas.messages import ChangeKind

_SQL = load("conversations")


@dataclass(frozen=True, slots=True)
class PostgresConversations:
    """Conversations in PostgreSQL. Every change holds the row lock that gives seqs; reads go to a replica, if any."""

    pool: Pool
    replica: Replica | None = None

    async def create(
        self,
        conversation_id: str,
        title: str | None,
        owner: str,
        members: Sequence[str],
        *,
        invited: Sequence[str] = (),
        most_invitations: int = 0,
        request_hash: bytes = b"",
    ) -> bool:
        everybody = sorted({owner, *members})
        fields = {"conversation_id": conversation_id, "owner": owner, "request_hash": request_hash}
        async with transaction(self.pool) as conn:
            made = await conn.execute(_SQL["create"], {**fields, "title": title, "count": len(everybody)})
            if made.rowcount == 0:
                if await (await conn.execute(_SQL["created_by_the_same"], fields)).fetchone():
                    return False
                raise IdTaken
            await conn.execute(_SQL["create_members"], {**fields, "members": everybody})
            event = created_event(conversation_id, title, owner, tuple(everybody), now(), tuple(invited), request_hash)
            await change_log.owe(conn, [OutboxEntry(0, event)])
            if invited:
                await memberships.invite(conn, conversation_id, invited, owner, most_invitations)
            return True

    async def add(
        self,
        conversation_id: str,
        user_id: str,
        by: str,
        *,
        seen: Standing | None = None,
        reads_older: bool = True,
    ) -> None:
        if not is_uuid(conversation_id):
            raise NotFound(NO_CONVERSATION)
        async with transaction(self.pool) as conn:
            head = await memberships.lock_for(conn, ChangeKind.MEMBER_ADDED, conversation_id, user_id, by)
            standing = await memberships.standing(conn, conversation_id, user_id)
            if standing is Standing.MEMBER:
                return
            check_seen(standing, seen)
            await memberships.end_invitation(conn, conversation_id, user_id)
            await memberships.join(conn, conversation_id, user_id, by, head=head, reads_older=reads_older)

    async def remove(self, conversation_id: str, user_id: str, by: str) -> None:
        if not is_uuid(conversation_id):
            raise NotFound(NO_CONVERSATION)
        async with transaction(self.pool) as conn:
            head = await memberships.lock_for(conn, ChangeKind.MEMBER_REMOVED, conversation_id, user_id, by)
            if await memberships.end_invitation(conn, conversation_id, user_id) is not None:
                await memberships.note(conn, ChangeKind.INVITATION_ENDED, conversation_id, user_id, by, head=head)
            elif await memberships.standing(conn, conversation_id, user_id) is Standing.MEMBER:
                await memberships.leave(conn, conversation_id, user_id, by, head=head)

    async def get(self, conversation_id: str, user_id: str) -> Conversation | None:
        if not is_uuid(conversation_id):
            return None
        found = await self._all("get", {"conversation_id": conversation_id, "user_id": user_id})
        if not found:
            return None
        id_, title, head, *columns, invited = found[0]
        members = [
            Member(user_id=user, role=role, delivered_seq=delivered, read_seq=read)
            for user, role, delivered, read in zip(*columns, strict=True)
        ]
        return Conversation(conversation_id=id_, title=title, head_seq=head, members=members, invited=invited)

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

    async def unread(self, user_id: str) -> Unread:
        [(messages, conversations)] = await self._all("unread", {"user_id": user_id})
        return Unread(messages, conversations)

    async def _all(self, name: str, params: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return await read(self.pool, self.replica, partial(rows_of, _SQL[name], params))
