"""Conversations and their members."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from domain.conversations import MAX_MEMBERS, Conversations, Summary
from domain.errors import Invalid, NotFound
from ingest.http.auth import Edge, json_body, page_size
from ingest.http.problems import json
from ingest.http.validation import clean, parse
from schemas.clock import wire_time
from schemas.frames import wire
from schemas.ids import is_uuid, new_id

UserId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:-]{1,64}\Z")]
Title = Annotated[str, Meta(min_length=1, max_length=200)]


class NewConversation(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The body of ``POST /conversations``."""

    conversation_id: str | None = None
    title: Title | None = None
    members: Annotated[tuple[UserId, ...], Meta(max_length=MAX_MEMBERS)] = ()


class NewMember(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The body of ``POST /conversations/{id}/members``."""

    user_id: UserId


@dataclass(frozen=True, slots=True)
class ConversationCalls:
    """Calls about conversations. ``changed`` tells the relay of a conversation's new event."""

    edge: Edge
    conversations: Conversations
    changed: Callable[[str], None]

    def routes(self) -> list[Route]:
        return [
            Route("/conversations", self.create, methods=["POST"]),
            Route("/conversations", self.mine, methods=["GET"]),
            Route("/conversations/{id}", self.get, methods=["GET"]),
            Route("/conversations/{id}/members", self.add, methods=["POST"]),
            Route("/conversations/{id}/members/{user}", self.remove, methods=["DELETE"]),
        ]

    async def create(self, request: Request) -> Response:
        """201; the caller becomes owner and member."""
        owner = await self.edge.caller(request)
        body = parse(NewConversation, await json_body(request))
        if body.conversation_id is not None and not is_uuid(body.conversation_id):
            raise Invalid(
                "conversationId is a UUID in lower case; leave it out to get one",
                [("$.conversationId", "expected a UUID")],
            )
        title = None if body.title is None else clean(body.title, "$.title")
        conversation_id = body.conversation_id or new_id()
        await self.conversations.create(conversation_id, title, owner, body.members)
        self.changed(conversation_id)
        members = sorted({owner, *body.members})
        return json(
            {"conversationId": conversation_id, "title": title, "members": members, "headSeq": 0},
            201,
            {"location": f"/conversations/{conversation_id}"},
        )

    async def mine(self, request: Request) -> Response:
        """The caller's conversations, newest activity first."""
        user = await self.edge.caller(request)
        limit = page_size(request.query_params)
        found = await self.conversations.mine(user, _place(request.query_params.get("cursor")), limit + 1)
        kept = found[:limit]
        following = _cursor(kept[-1]) if len(found) > limit else None
        return json({"conversations": [_summary(s) for s in kept], "next": following})

    async def get(self, request: Request) -> Response:
        """One conversation, with its members and their watermarks."""
        user = await self.edge.caller(request)
        conversation = await self.conversations.get(request.path_params["id"], user)
        if conversation is None:
            raise NotFound("no such conversation, or you are not a member of it")
        return json(
            {
                "conversationId": conversation.conversation_id,
                "title": conversation.title,
                "headSeq": conversation.head_seq,
                "members": [
                    {
                        "userId": m.user_id,
                        "role": m.role,
                        "deliveredSeq": m.delivered_seq,
                        "readSeq": m.read_seq,
                    }
                    for m in conversation.members
                ],
            }
        )

    async def add(self, request: Request) -> Response:
        """204; also when the user was a member before."""
        by = await self.edge.caller(request)
        body = parse(NewMember, await json_body(request))
        await self.conversations.add(request.path_params["id"], body.user_id, by)
        self.changed(request.path_params["id"])
        return Response(status_code=204)

    async def remove(self, request: Request) -> Response:
        """204; also when the user was no member."""
        by = await self.edge.caller(request)
        await self.conversations.remove(request.path_params["id"], request.path_params["user"], by)
        self.changed(request.path_params["id"])
        return Response(status_code=204)


def _summary(summary: Summary) -> dict[str, object]:
    last = summary.last_message
    return {
        "conversationId": summary.conversation_id,
        "title": summary.title,
        "headSeq": summary.head_seq,
        "unread": summary.unread,
        "lastMessage": wire(last) if last else None,
        "myReadSeq": summary.my_read_seq,
        "lastAt": wire_time(summary.last_at),
    }


def _cursor(summary: Summary) -> str:
    place = f"{summary.last_at.isoformat()} {summary.conversation_id}"
    return base64.urlsafe_b64encode(place.encode()).decode()


def _place(cursor: str | None) -> tuple[datetime, str] | None:
    if cursor is None:
        return None
    try:
        at, id_ = base64.urlsafe_b64decode(cursor.encode()).decode().split(" ")
        if not is_uuid(id_):
            raise ValueError
        return datetime.fromisoformat(at), id_
    except (ValueError, binascii.Error) as exc:
        raise Invalid("cursor is none that was given; start without one", [("?cursor", "unknown")]) from exc
