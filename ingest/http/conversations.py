"""Conversations and their members."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from domain.conversations import NO_CONVERSATION, Conversations, Summary
from domain.errors import NotFound
from ingest.http.params import place, place_cursor, wrong
from ingest.http.routing import DONE, Answer, Call, Endpoints
from ingest.http.validation import clean
from schemas.answers import (
    ConversationCreated,
    ConversationDetails,
    ConversationMember,
    ConversationPage,
    ConversationSummary,
)
from schemas.calls import ConversationsQuery, NewConversation, NewMember
from schemas.clock import wire_time
from schemas.fields import PATTERN_TEXTS
from schemas.ids import USER_ID, USER_ID_PATTERN, new_id


@dataclass(frozen=True, slots=True)
class ConversationEndpoints:
    """Calls about conversations. ``changed`` tells the relay of a conversation's new event."""

    conversations: Conversations
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
        title = None if call.body.title is None else clean(call.body.title, "$.title")
        await call.charge("members", len(call.body.members))
        conversation_id = call.body.conversation_id or new_id()
        await self.conversations.create(conversation_id, title, call.user, call.body.members)
        self.changed(conversation_id)
        created = ConversationCreated(
            conversation_id=conversation_id,
            title=title,
            members=tuple(sorted({call.user, *call.body.members})),
            head_seq=0,
        )
        return Answer(created, 201, {"location": f"/conversations/{conversation_id}"})

    async def list(self, call: Call[ConversationsQuery, None]) -> Answer[ConversationPage]:
        limit = call.query.limit
        found = await self.conversations.mine(call.user, place(call.query.cursor), limit + 1)
        page = found[:limit]
        following = place_cursor(page[-1].last_at, page[-1].conversation_id) if len(found) > limit else None
        return Answer(ConversationPage(conversations=tuple(_summary(line) for line in page), next=following))

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
            )
        )

    async def add(self, call: Call[None, NewMember]) -> Answer[None]:
        """Make the user a member; the same answer when the user was one before."""
        await self.conversations.add(call.path["id"], call.body.user_id, call.user)
        self.changed(call.path["id"])
        return DONE

    async def remove(self, call: Call[None, None]) -> Answer[None]:
        """End the membership; the same answer when the user was no member."""
        if not USER_ID.match(call.path["userId"]):
            raise wrong("userId", f"must be {PATTERN_TEXTS[USER_ID_PATTERN]}")
        await self.conversations.remove(call.path["id"], call.path["userId"], call.user)
        self.changed(call.path["id"])
        return DONE


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
