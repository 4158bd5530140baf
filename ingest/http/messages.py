"""``POST /messages`` and the reading of messages."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from adapters.postgres.messages import PostgresMessages
from domain.errors import NotFound
from domain.history import History
from ingest.accept import Accept
from ingest.http.auth import Edge, json_body, page_size, whole
from ingest.http.problems import json
from ingest.http.validation import draft
from schemas.frames import wire
from schemas.messages import Message


@dataclass(frozen=True, slots=True)
class MessageCalls:
    """Calls about messages."""

    edge: Edge
    accept: Accept
    messages: PostgresMessages
    history: History

    def routes(self) -> list[Route]:
        return [
            Route("/messages", self.post, methods=["POST"]),
            Route("/messages/{id}", self.get, methods=["GET"]),
            Route("/messages/{id}/receipts", self.receipts, methods=["GET"]),
            Route("/conversations/{id}/messages", self.page, methods=["GET"]),
        ]

    async def post(self, request: Request) -> Response:
        """201 with the message's place; 200 and ``Idempotent-Replayed: true`` for a repeat."""
        sender = await self.edge.sender(request)
        key = request.headers.get("idempotency-key")
        accepted = await self.accept(draft(await json_body(request), sender_id=sender, idempotency_key=key))
        message = accepted.message
        answer = {
            "messageId": message.message_id,
            "conversationId": message.conversation_id,
            "seq": message.seq,
            "status": "sent",
            "createdAt": message.created_at,
        }
        if accepted.replayed:
            return json(answer, 200, {"idempotent-replayed": "true"})
        return json(answer, 201)

    async def get(self, request: Request) -> Response:
        """One message."""
        return json(wire(await self._readable(request)))

    async def receipts(self, request: Request) -> Response:
        """How far one message has come with each member."""
        message = await self._readable(request)
        rows = await self.messages.receipts(message.message_id)
        return json(
            {
                "receipts": [
                    {
                        "userId": row.user_id,
                        "status": row.status,
                        "deliveredAt": row.delivered_at,
                        "readAt": row.read_at,
                    }
                    for row in rows
                ]
            }
        )

    async def page(self, request: Request) -> Response:
        """Messages by seq: after ``?after`` ascending, else the newest before ``?before``."""
        user = await self.edge.caller(request)
        conversation_id, query = request.path_params["id"], request.query_params
        after, before, limit = whole(query, "after"), whole(query, "before"), page_size(query)
        if await self.history.member_since(conversation_id, user) is None:
            raise NotFound("no such conversation, or you are not a member of it")
        head = (await self.history.heads([conversation_id])).get(conversation_id, 0)
        found = await self.messages.page(conversation_id, after, before, limit + 1)
        kept = found[:limit] if after is not None else found[-limit:]
        return json(
            {"messages": [wire(m) for m in kept], "headSeq": head, "hasMore": len(found) > len(kept)},
        )

    async def _readable(self, request: Request) -> Message:
        user = await self.edge.caller(request)
        message = await self.messages.one(request.path_params["id"], user)
        if message is None:
            raise NotFound("no such message, or it is not in a conversation of yours")
        return message
