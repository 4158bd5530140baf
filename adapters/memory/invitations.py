"""Twin of invitations, and the steps on memberships that the twins share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from adapters.memory.tables import InvitationRow, Tables
from domain.changes import membership_entry
from domain.conversations import check_change, check_seen
from domain.errors import Conflict, NotFound
from domain.invitations import NO_INVITATION, Invitation
from domain.policy import ACQUAINTED_MAX_MEMBERS, Relation, Standing, check_invitations, standing_of
from schemas.clock import now
from schemas.fields import MAX_MEMBERS
from schemas.messages import ChangeKind


@dataclass(slots=True)
class MemoryInvitations:
    """Invitations and Relations on dictionaries."""

    tables: Tables

    async def relations(
        self, by: str, user_ids: Sequence[str], conversation_id: str | None = None
    ) -> Mapping[str, Relation]:
        tables, known = self.tables, self._acquaintances(by)
        id_ = conversation_id or ""
        return {
            user: Relation(
                user_id=user,
                standing=standing(tables, id_, user),
                role=tables.members.get(id_, {}).get(user),
                acquainted=user in known,
                declined=(user, by) in tables.declined,
            )
            for user in user_ids
        }

    def _acquaintances(self, by: str) -> set[str]:
        small = (
            id_ for id_, users in self.tables.members.items() if by in users and len(users) <= ACQUAINTED_MAX_MEMBERS
        )
        return {user for id_ in small for user in self.tables.members[id_] if (id_, user) in self.tables.writers}

    async def invite(self, conversation_id: str, user_id: str, by: str, *, seen: Standing, most: int = 0) -> None:
        tables = self.tables
        role = tables.members.get(conversation_id, {}).get(by)
        check_change(ChangeKind.MEMBER_INVITED, role, user_id=user_id, by=by)
        now_standing = standing(tables, conversation_id, user_id)
        if now_standing is Standing.INVITED:
            return
        check_seen(now_standing, seen)
        invite(tables, conversation_id, [user_id], by, most)
        note(tables, ChangeKind.MEMBER_INVITED, conversation_id, user_id, by)

    async def page(self, user_id: str, before: tuple[datetime, str] | None, limit: int) -> Sequence[Invitation]:
        found = [self._invitation(id_, row) for (id_, user), row in self.tables.invitations.items() if user == user_id]
        found.sort(key=lambda each: (each.at, each.conversation_id), reverse=True)
        return [each for each in found if before is None or (each.at, each.conversation_id) < before][:limit]

    def _invitation(self, conversation_id: str, row: InvitationRow) -> Invitation:
        return Invitation(
            conversation_id=conversation_id,
            title=self.tables.conversations[conversation_id].title,
            invited_by=row.invited_by,
            member_count=len(self.tables.members[conversation_id]),
            at=row.at,
        )

    async def accept(self, conversation_id: str, user_id: str, *, reads_older: bool = True) -> None:
        match standing(self.tables, conversation_id, user_id):
            case Standing.INVITED:
                join(self.tables, conversation_id, user_id, user_id, reads_older=reads_older)
            case Standing.MEMBER:
                return
            case _:
                raise NotFound(NO_INVITATION)

    async def decline(self, conversation_id: str, user_id: str) -> bool:
        row = self.tables.invitations.pop((conversation_id, user_id), None)
        if row is None:
            return False
        self.tables.declined.add((user_id, row.invited_by))
        note(self.tables, ChangeKind.INVITATION_ENDED, conversation_id, user_id, user_id)
        return True


def standing(tables: Tables, conversation_id: str, user_id: str) -> Standing:
    """Return how the user stands to the conversation."""
    pair = (conversation_id, user_id)
    return standing_of(
        user_id,
        is_member=user_id in tables.members.get(conversation_id, {}),
        is_invited=pair in tables.invitations,
        ended_by=tables.former_members.get(pair),
    )


def join(tables: Tables, conversation_id: str, user_id: str, by: str, *, reads_older: bool) -> None:
    """Make a user who is none a member, behind the head. Raises Conflict when the conversation is full."""
    members, pair = tables.members[conversation_id], (conversation_id, user_id)
    if len(members) >= MAX_MEMBERS:
        raise Conflict(f"the conversation is full: it has {MAX_MEMBERS} members")
    members[user_id] = "member"
    tables.invitations.pop(pair, None)
    tables.former_members.pop(pair, None)
    tables.hidden_up_to[pair] = 0 if reads_older else tables.conversations[conversation_id].last_seq
    note(tables, ChangeKind.MEMBER_ADDED, conversation_id, user_id, by, tables.hidden_up_to[pair])
    tables.joined[pair] = tables.seen[pair] = tables.conversations[conversation_id].last_seq


def invite(tables: Tables, conversation_id: str, users: Sequence[str], by: str, most: int) -> None:
    """Store invitations, unless too many of the inviter are open. Raises Conflict."""
    if users:
        check_invitations(
            Counter(user for (_, user), row in tables.invitations.items() if row.invited_by == by), users, most
        )
        tables.invitations.update({(conversation_id, user): InvitationRow(by) for user in users})


def note(tables: Tables, kind: ChangeKind, conversation_id: str, user_id: str, by: str, hidden_up_to: int = 0) -> None:
    """Append a change of members or invitations to the change log."""
    seq = tables.conversations[conversation_id].last_seq + 1
    place = (kind, conversation_id, seq)
    tables.append(membership_entry(*place, user=user_id, by=by, at=now(), hidden_up_to=hidden_up_to))
