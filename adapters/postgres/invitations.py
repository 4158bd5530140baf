"""Invitations in PostgreSQL, and the facts about users on which policies decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from adapters.postgres import change_log, memberships
from adapters.postgres.pool import Pool, connection, transaction
from adapters.postgres.statements import load
from domain.conversations import check_seen
from domain.errors import NotFound
from domain.invitations import NO_INVITATION, Invitation
from domain.policy import ACQUAINTED_MAX_MEMBERS, Relation, Standing, standing_of
from schemas.ids import is_uuid
from schemas.messages import ChangeKind

_SQL = load("invitations")


@dataclass(frozen=True, slots=True)
class PostgresInvitations:
    """Invitations and Relations in PostgreSQL. An id that is no UUID names nothing."""

    pool: Pool

    async def relations(
        self, by: str, user_ids: Sequence[str], conversation_id: str | None = None
    ) -> Mapping[str, Relation]:
        fields = {
            "by": by,
            "users": list(user_ids),
            "conversation_id": conversation_id if conversation_id and is_uuid(conversation_id) else None,
            "max_members": ACQUAINTED_MAX_MEMBERS,
        }
        async with connection(self.pool) as conn:
            found = await (await conn.execute(_SQL["relations"], fields)).fetchall()
        return {
            user: Relation(
                user_id=user,
                standing=standing_of(user, is_member=role is not None, is_invited=is_invited, ended_by=ended_by),
                role=role,
                acquainted=acquainted,
                declined=declined,
            )
            for user, role, is_invited, ended_by, acquainted, declined in found
        }

    async def invite(self, conversation_id: str, user_id: str, by: str, *, seen: Standing, most: int = 0) -> None:
        async with transaction(self.pool) as conn:
            head = await memberships.lock_for(conn, ChangeKind.MEMBER_INVITED, conversation_id, user_id, by)
            standing = await memberships.standing(conn, conversation_id, user_id)
            if standing is Standing.INVITED:
                return
            check_seen(standing, seen)
            # The inviter's lock comes last, so that whoever holds it waits for no conversation.
            await memberships.note(conn, ChangeKind.MEMBER_INVITED, conversation_id, user_id, by, head=head)
            await memberships.invite(conn, conversation_id, [user_id], by, most)

    async def page(self, user_id: str, before: tuple[datetime, str] | None, limit: int) -> Sequence[Invitation]:
        at, id_ = before or (None, None)
        fields = {"user_id": user_id, "before_at": at, "before_id": id_, "limit": limit}
        async with connection(self.pool) as conn:
            found = await (await conn.execute(_SQL["page"], fields)).fetchall()
        return [
            Invitation(conversation_id=id_, title=title, invited_by=by, member_count=count, at=at)
            for id_, title, by, count, at in found
        ]

    async def accept(self, conversation_id: str, user_id: str, *, reads_older: bool = True) -> None:
        if not is_uuid(conversation_id):
            raise NotFound(NO_INVITATION)
        async with transaction(self.pool) as conn:
            head = await change_log.lock(conn, conversation_id)
            inviter = await memberships.end_invitation(conn, conversation_id, user_id)
            if head is None or inviter is None:
                if await memberships.standing(conn, conversation_id, user_id) is Standing.MEMBER:
                    return
                raise NotFound(NO_INVITATION)
            await memberships.join(conn, conversation_id, user_id, user_id, head=head, reads_older=reads_older)

    async def decline(self, conversation_id: str, user_id: str) -> bool:
        if not is_uuid(conversation_id):
            return False
        async with transaction(self.pool) as conn:
            head = await change_log.lock(conn, conversation_id)
            inviter = await memberships.end_invitation(conn, conversation_id, user_id)
            if head is None or inviter is None:
                return False
            await conn.execute(_SQL["note_declined"], {"user_id": user_id, "by": inviter})
            await memberships.note(conn, ChangeKind.INVITATION_ENDED, conversation_id, user_id, user_id, head=head)
            return True
