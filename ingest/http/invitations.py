"""Invitations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from domain.invitations import Invitations
from ingest.http.params import place, place_cursor
from ingest.http.routing import DONE, Answer, Call, Endpoints
from ingest.memberships import Memberships
from schemas.answers import InvitationEntry, InvitationPage
from schemas.calls import InvitationsQuery, NewInvitation
from schemas.clock import wire_time

INVITED: Answer[None] = Answer(None, 202)


@dataclass(frozen=True, slots=True)
class InvitationEndpoints:
    """Calls about invitations. ``changed`` tells the relay of a conversation's new event."""

    invitations: Invitations
    memberships: Memberships
    changed: Callable[[str], None]

    def endpoints(self) -> Endpoints:
        return {
            "inviteMember": self.invite,
            "listInvitations": self.list,
            "acceptInvitation": self.accept,
            "declineInvitation": self.decline,
        }

    async def invite(self, call: Call[None, NewInvitation]) -> Answer[None]:
        """Invite a user; the same answer when the user was invited before."""
        is_invited = await self.memberships.invite(call.path["id"], call.body.user_id, call.user)
        self.changed(call.path["id"])
        return INVITED if is_invited else DONE

    async def list(self, call: Call[InvitationsQuery, None]) -> Answer[InvitationPage]:
        limit = call.query.limit
        found = await self.invitations.page(call.user, place(call.query.cursor), limit + 1)
        page = found[:limit]
        following = place_cursor(page[-1].at, page[-1].conversation_id) if len(found) > limit else None
        entries = tuple(
            InvitationEntry(
                conversation_id=invitation.conversation_id,
                title=invitation.title,
                invited_by=invitation.invited_by,
                member_count=invitation.member_count,
                at=wire_time(invitation.at),
            )
            for invitation in page
        )
        return Answer(InvitationPage(invitations=entries, next=following))

    async def accept(self, call: Call[None, None]) -> Answer[None]:
        await self.memberships.accept(call.path["id"], call.user)
        self.changed(call.path["id"])
        return DONE

    async def decline(self, call: Call[None, None]) -> Answer[None]:
        """Decline; the same answer when no invitation is open, whatever the conversation."""
        if await self.invitations.decline(call.path["id"], call.user):
            self.changed(call.path["id"])
        return DONE
