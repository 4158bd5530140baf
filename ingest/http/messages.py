"""Messages: sent, and read."""

from __future__ import annotations

from dataclasses import dataclass

from domain.conversations import NO_CONVERSATION
from domain.errors import NotFound
from domain.history import Heads, History, reset_point
from domain.messages import Messages
from domain.policy import Action, Policy, Question, require
from ingest.accept import Accept
from ingest.http.idempotency import REPLAYED, idempotency_key
from ingest.http.routing import Answer, Call, Endpoints
from ingest.http.validation import draft
from schemas.answers import MessageAccepted, MessagePage, MessageReceipt, MessageReceipts
from schemas.calls import MessagesQuery, NewMessage
from schemas.messages import Message


@dataclass(frozen=True, slots=True)
class MessageEndpoints:
    """Calls about messages."""

    accept: Accept
    messages: Messages
    history: History
    policy: Policy

    def endpoints(self) -> Endpoints:
        return {
            "sendMessage": self.send,
            "listMessages": self.list,
            "getMessage": self.get,
            "listMessageReceipts": self.receipts,
        }

    async def send(self, call: Call[None, NewMessage]) -> Answer[MessageAccepted]:
        """Return the message's place once it is stored; a repeat gets the place of the first."""
        key = idempotency_key(call.headers)
        new = draft(call.body, sender_id=call.user, idempotency_key=key)
        question = Question(user_id=call.user, action=Action.WRITE, conversation_id=new.conversation_id)
        await require(self.policy, question)
        accepted = await self.accept(new)
        message = accepted.message
        body = MessageAccepted(
            message_id=message.message_id,
            conversation_id=message.conversation_id,
            seq=message.seq,
            created_at=message.created_at,
        )
        location = {"location": f"/messages/{message.message_id}"}
        return Answer(body, 200, {**location, **REPLAYED}) if accepted.replayed else Answer(body, 201, location)

    async def list(self, call: Call[MessagesQuery, None]) -> Answer[MessagePage]:
        conversation_id, query = call.path["id"], call.query
        membership = await self.history.membership(conversation_id, call.user)
        if membership is None:
            raise NotFound(NO_CONVERSATION)
        heads = await self.history.heads([conversation_id])
        reset_from = await self._reset_point(conversation_id, query, heads)
        after = query.after if reset_from is None else reset_from
        found = await self.messages.page(conversation_id, after, query.before, query.limit + 1, membership.hidden_up_to)
        page = found[: query.limit] if after is not None else found[-query.limit :]
        return Answer(
            MessagePage(
                messages=tuple(page),
                head_seq=heads.of(conversation_id),
                has_more=len(found) > len(page),
                epoch=heads.epoch,
                reset_from=reset_from,
            )
        )

    async def _reset_point(self, conversation_id: str, query: MessagesQuery, heads: Heads) -> int | None:
        if query.after is None:
            return None
        other = query.epoch is not None and query.epoch != heads.epoch
        shared = await self.history.shared(conversation_id, query.epoch or "") if other else None
        return reset_point(query.after, query.epoch, heads, conversation_id, shared)

    async def get(self, call: Call[None, None]) -> Answer[Message]:
        return Answer(await self._readable(call))

    async def receipts(self, call: Call[None, None]) -> Answer[MessageReceipts]:
        message = await self._readable(call)
        receipts = tuple(
            MessageReceipt(
                user_id=receipt.user_id,
                status=receipt.status,
                delivered_at=receipt.delivered_at,
                read_at=receipt.read_at,
            )
            for receipt in await self.messages.receipts(message.message_id)
        )
        return Answer(MessageReceipts(receipts=receipts))

    async def _readable(self, call: Call[None, None]) -> Message:
        message = await self.messages.one(call.path["id"], call.user)
        if message is None:
            raise NotFound("no such message, or you are not a member of its conversation")
        return message
