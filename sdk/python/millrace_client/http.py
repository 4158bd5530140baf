"""The HTTP API in the name of one user. Calls are repeated until the server has said what became of them.

A repeat is safe: a message has a client message id and a conversation has its id before the first try goes out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from millrace_client.ids import new_id
from millrace_client.retries import Answer, RetryingTransport, open_http
from millrace_client.tokens import Token, TokenSource
from millrace_client.types import (
    Budget,
    BudgetList,
    ConversationAnalytics,
    ConversationDetails,
    ConversationPage,
    InvitationPage,
    MediaUrl,
    Message,
    MessageAccepted,
    MessagePage,
    MessageReceipt,
    MessageReceipts,
    NotificationPage,
    SearchPage,
    TicketIssued,
)

_CREATED, _DONE, _INVITED_OR_DONE = (200, 201), (204,), (202, 204)


@dataclass(frozen=True, slots=True)
class Posted:
    """A message that was accepted. ``seconds`` is how long the last try took on the wire; ``began`` is
    ``time.perf_counter()`` when the first try went out."""

    message: MessageAccepted
    is_repeat: bool
    seconds: float
    began: float


class HttpClient:
    """Calls of one user. All raise Refused and its kinds, and Unavailable when two minutes bring no answer."""

    def __init__(self, transport: RetryingTransport, token: Token | TokenSource) -> None:
        """Make calls over ``transport``, which clients of many users may share."""
        self._transport = transport
        self._tokens = token if isinstance(token, TokenSource) else TokenSource(token)

    # conversations

    async def create_conversation(
        self, members: Sequence[str], title: str | None = None, *, conversation_id: str | None = None
    ) -> str:
        """Make a conversation of the user, its owner, and ``members``; return its id. A repeat with an id of one's own
        makes no second one. Members whom the server invites instead are in ``conversation(id).invited``."""
        id_ = conversation_id or new_id()
        body = {"conversationId": id_, "members": list(members), **({} if title is None else {"title": title})}
        await self._call("POST", "/conversations", body, ok=_CREATED)
        return id_

    async def conversations(self, *, limit: int = 50, cursor: str | None = None) -> ConversationPage:
        """Return the user's conversations, newest activity first."""
        answer = await self._get("/conversations", {"limit": limit, "cursor": cursor})
        return answer.as_type(ConversationPage)

    async def conversation(self, conversation_id: str) -> ConversationDetails:
        """Return a conversation with its members and their watermarks."""
        return (await self._get(f"/conversations/{_part(conversation_id)}")).as_type(ConversationDetails)

    async def add_member(self, conversation_id: str, user_id: str) -> bool:
        """Make a user a member, as the owner; return False when the user was invited and must accept first."""
        path = f"/conversations/{_part(conversation_id)}/members"
        answer = await self._call("POST", path, {"userId": user_id}, ok=_INVITED_OR_DONE)
        return answer.status != 202

    async def remove_member(self, conversation_id: str, user_id: str) -> None:
        """End a membership: one's own, or as the owner, who may withdraw an invitation, too; a repeat finds that it has
        ended."""
        path = f"/conversations/{_part(conversation_id)}/members/{_part(user_id)}"
        await self._call("DELETE", path, ok=(204, 404))

    # invitations

    async def invite_member(self, conversation_id: str, user_id: str) -> bool:
        """Invite a user, as the owner; return False when the user is a member already."""
        path = f"/conversations/{_part(conversation_id)}/invitations"
        answer = await self._call("POST", path, {"userId": user_id}, ok=_INVITED_OR_DONE)
        return answer.status == 202

    async def invitations(self, *, limit: int = 50, cursor: str | None = None) -> InvitationPage:
        """Return the user's open invitations, newest first."""
        return (await self._get("/invitations", {"limit": limit, "cursor": cursor})).as_type(InvitationPage)

    async def accept_invitation(self, conversation_id: str) -> None:
        """Become a member of a conversation to which the user is invited."""
        await self._call("POST", f"/conversations/{_part(conversation_id)}/invitation/accept", ok=_DONE)

    async def decline_invitation(self, conversation_id: str) -> None:
        """Decline an invitation; its sender cannot invite the user again."""
        await self._call("POST", f"/conversations/{_part(conversation_id)}/invitation/decline", ok=_DONE)

    # messages

    async def send(
        self,
        conversation_id: str,
        content: str,
        *,
        type: str = "text",
        attachments: Sequence[str] = (),
        reply_to: str | None = None,
        client_message_id: str | None = None,
    ) -> Posted:
        """Send a message. However often it is tried, it is stored once: all tries have the same client message id.

        Pass a ``client_message_id`` that was stored before to send again after a restart of the application.
        """
        body: dict[str, Any] = {
            "conversationId": conversation_id,
            "type": type,
            "content": content,
            "clientMessageId": client_message_id or new_id(),
        }
        if attachments:
            body["attachments"] = list(attachments)
        if reply_to is not None:
            body["replyTo"] = reply_to
        answer = await self._call("POST", "/messages", body, ok=_CREATED)
        return Posted(answer.as_type(MessageAccepted), answer.is_repeat, answer.seconds, answer.began)

    async def message(self, message_id: str) -> Message:
        """Return one message."""
        return (await self._get(f"/messages/{_part(message_id)}")).as_type(Message)

    async def message_receipts(self, message_id: str) -> tuple[MessageReceipt, ...]:
        """Return how far one message has come with each member."""
        return (await self._get(f"/messages/{_part(message_id)}/receipts")).as_type(MessageReceipts).receipts

    async def messages(
        self,
        conversation_id: str,
        *,
        after: int | None = None,
        before: int | None = None,
        epoch: str | None = None,
        limit: int = 50,
    ) -> MessagePage:
        """Return messages between two seqs (exclusive), ascending; the newest ones unless ``after`` is given.

        ``epoch`` is that of the page or frame that has given ``after``: see ``reset_from`` of the page.
        """
        query = {"after": after, "before": before, "epoch": epoch, "limit": limit}
        return (await self._get(f"/conversations/{_part(conversation_id)}/messages", query)).as_type(MessagePage)

    async def all_messages(self, conversation_id: str, *, after: int = 0) -> AsyncIterator[Message]:
        """Yield every message after a seq, page by page; those that a store has that went back meanwhile, once more."""
        has_more, epoch = True, None
        while has_more:
            page = await self.messages(conversation_id, after=after, epoch=epoch, limit=200)
            after, epoch = after if page.reset_from is None else page.reset_from, page.epoch
            for message in page.messages:
                yield message
                after = message.seq
            has_more = page.has_more

    async def record_receipts(
        self, conversation_id: str, *, delivered_seq: int = 0, read_seq: int = 0, device: str | None = None
    ) -> None:
        """Report what a device has, or its user has read; for clients without a live connection."""
        body: dict[str, Any] = {"deliveredSeq": delivered_seq, "readSeq": read_seq}
        if device is not None:
            body["device"] = device
        await self._call("POST", f"/conversations/{_part(conversation_id)}/receipts", body, ok=_DONE)

    # search, notifications, tickets

    async def search(
        self, text: str, *, conversation_id: str | None = None, limit: int = 20, cursor: str | None = None
    ) -> SearchPage:
        """Return messages of the user's conversations that match, newest first."""
        query = {"q": text, "conversationId": conversation_id, "limit": limit, "cursor": cursor}
        return (await self._get("/search", query)).as_type(SearchPage)

    async def notifications(
        self, *, unseen: bool = False, limit: int = 50, cursor: str | None = None
    ) -> NotificationPage:
        """Return the user's notifications, newest first."""
        query = {"unseen": str(unseen).lower(), "limit": limit, "cursor": cursor}
        return (await self._get("/notifications", query)).as_type(NotificationPage)

    async def mark_notifications_seen(self, up_to: str) -> None:
        """Mark this notification and all older ones as seen."""
        await self._call("POST", "/notifications/seen", {"upTo": up_to}, ok=_DONE)

    async def analytics(
        self, conversation_id: str, *, start: str | None = None, end: str | None = None, limit: int = 1440
    ) -> ConversationAnalytics:
        """Return the messages per minute of a conversation, newest first, between two times (RFC 3339)."""
        query = {"from": start, "to": end, "limit": limit}
        return (await self._get(f"/conversations/{_part(conversation_id)}/analytics", query)).as_type(
            ConversationAnalytics
        )

    async def media_url(self, media_id: str, part: str = "file") -> MediaUrl:
        """Return a URL for ``<img>`` or ``<video>``. ``part`` is file, original (of one's own uploads) or thumbnail."""
        answer = await self._call("POST", f"/media/{_part(media_id)}/url?part={_part(part)}", ok=(201,))
        return answer.as_type(MediaUrl)

    async def limits(self) -> tuple[Budget, ...]:
        """Return what is left of each budget of the user."""
        return (await self._get("/limits")).as_type(BudgetList).limits

    async def ticket(self) -> TicketIssued:
        """Return a ticket that opens one WebSocket."""
        return (await self._call("POST", "/ws-ticket", ok=(201,))).as_type(TicketIssued)

    async def _get(self, path: str, query: Mapping[str, object] | None = None) -> Answer:
        return await self._call("GET", path, query=query)

    async def _call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        ok: tuple[int, ...] = (200,),
        query: Mapping[str, object] | None = None,
    ) -> Answer:
        parameters = {name: str(value) for name, value in (query or {}).items() if value is not None}
        return await self._transport.call(method, path, self._tokens, body, ok=ok, query=parameters)


def _part(text: str) -> str:
    return quote(text, safe="")


@asynccontextmanager
async def open_http_client(url: str, token: Token) -> AsyncIterator[HttpClient]:
    """Yield a client of the API at ``url`` with connections of its own."""
    async with open_http(url) as transport:
        yield HttpClient(transport, token)
