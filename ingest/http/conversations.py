"""Conversations and their members."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from domain.conversations import NO_CONVERSATION, Conversations, IdTaken, Summary, Unread
from domain.errors import NotFound
from domain.idempotency import key_used
from ingest.http.idempotency import REPLAYED, idempotency_key
from ingest.http.invitations import INVITED
from ingest.http.params import place, place_cursor
from ingest.http.routing import DONE, Answer, Call, Endpoints
from ingest.http.validation import title_of
from ingest.memberships import Memberships
from runtime.security_log import SecurityEvent, security_log
from schemas.answers import (
    ConversationCreated,
    ConversationDetails,
    ConversationMember,
    ConversationPage,
    ConversationSummary,
    UnreadTotal,
)
from schemas.calls import ConversationsQuery, NewConversation, NewMember
from schemas.clock import wire_time
from schemas.ids import id_for, new_id


@dataclass(frozen=True, slots=True)
class ConversationEndpoints:
    """Calls about conversations. ``changed`` tells the relay of a conversation's new event."""

    conversations: Conversations
    memberships: Memberships
    changed: Callable[[str], None]

    def endpoints(self) -> Endpoints:
        return {
            "createConversation": self.create,
            "listConversations": self.list,
            "getConversation": self.get,
            "addMember": self.add,
            "removeMember": self.remove,
        }

    async def create(self, call: Call[None, NewConversation]) -> Answer[ConversationCreated]:
        """Create a conversation; the same call by the same user finds it, and answers 200."""
        title = None if call.body.title is None else title_of(call.body.title)
        await call.charge("members", len(call.body.members))
        key = idempotency_key(call.headers)
        given = call.body.conversation_id
        conversation_id = given or (new_id() if key is None else id_for(call.user, key))
        try:
            founding = await self.memberships.create(conversation_id, title, call.user, call.body.members)
        except IdTaken as exc:
            raise exc if key is None or given else key_used() from exc
        self.changed(conversation_id)
        created = ConversationCreated(
            conversation_id=conversation_id,
            title=title,
            members=founding.members,
            head_seq=founding.head_seq,
            invited=founding.invited,
        )
        headers = {"location": f"/conversations/{conversation_id}"}
        if founding.replayed:
            return Answer(created, 200, {**headers, **REPLAYED})
        return Answer(created, 201, headers)

    async def list(self, call: Call[ConversationsQuery, None]) -> Answer[ConversationPage]:
        limit = call.query.limit
        found = await self.conversations.mine(call.user, place(call.query.cursor), limit + 1)
        page = found[:limit]
        following = place_cursor(page[-1].last_at, page[-1].conversation_id) if len(found) > limit else None
        total = None if call.query.cursor else _total(await self.conversations.unread(call.user))
        lines = tuple(_summary(line) for line in page)
        return Answer(ConversationPage(conversations=lines, next=following, total=total))

    async def get(self, call: Call[None, None]) -> Answer[ConversationDetails]:
        conversation = await self.conversations.get(call.path["id"], call.user)
        if conversation is None:
            raise NotFound(NO_CONVERSATION)
        return Answer(
            ConversationDetails(
                conversation_id=conversation.conversation_id,
                title=conversation.title,
                head_seq=conversation.head_seq,
                members=tuple(
                    ConversationMember(
                        user_id=member.user_id,
                        role=member.role,
                        delivered_seq=member.delivered_seq,
                        read_seq=member.read_seq,
                    )
                    for member in conversation.members
                ),
                invited=tuple(conversation.invited),
            )
        )

    async def add(self, call: Call[None, NewMember]) -> Answer[None]:
        """Make the user a member, or invite them; the same answer when the user was one before."""
        is_member = await self.memberships.add(call.path["id"], call.body.user_id, call.user)
        self.changed(call.path["id"])
        _note(SecurityEvent.MEMBER_ADDED if is_member else SecurityEvent.MEMBER_INVITED, call, call.body.user_id)
        return DONE if is_member else INVITED

    async def remove(self, call: Call[None, None]) -> Answer[None]:
        """End the membership or the invitation; the same answer when the user had neither."""
        await self.conversations.remove(call.path["id"], call.path["userId"], call.user)
        self.changed(call.path["id"])
        _note(SecurityEvent.MEMBER_REMOVED, call, call.path["userId"])
        return DONE


def _note(event: SecurityEvent, call: Call[Any, Any], user_id: str) -> None:
    """Note who changed whose membership."""
    security_log.done(event, user_id=user_id, by=call.user, jti=call.identity.jti, conversation_id=call.path["id"])


def _total(unread: Unread) -> UnreadTotal:
    return UnreadTotal(unread=unread.messages, conversations=unread.conversations)


def _summary(summary: Summary) -> ConversationSummary:
    return ConversationSummary(
        conversation_id=summary.conversation_id,
        title=summary.title,
        head_seq=summary.head_seq,
        unread=summary.unread,
        last_message=summary.last_message,
        my_read_seq=summary.my_read_seq,
        last_at=wire_time(summary.last_at),
    )
