"""A user's reads of one conversation over HTTP. Each becomes an observation for the rules."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import orjson
from millrace_client.types import (
    ConversationAnalytics,
    ConversationPage,
    Message,
    MessagePage,
    NotificationPage,
    SearchPage,
    TicketIssued,
)
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from verify.final_state import digest
from verify.history import Room, Sending
from verify.http_answers import Answered, Caller
from verify.observations import (
    ConversationList,
    HistoryPage,
    ListedConversation,
    ListedNotification,
    MinuteCounts,
    NotificationWalk,
    PostedReceipt,
    Reads,
    Search,
    ShownMessage,
    StrangersPage,
    TicketUse,
    WholeSearch,
)

_CONNECT_S = 5.0
_WHOLE_PAGE = 100
_PAGES_MAX = 500


def shown(message: Message) -> ShownMessage:
    """Return a message without its content. Pure."""
    content = digest(message.content)
    return ShownMessage(message.message_id, message.conversation_id, message.seq, message.sender_id, content)


def words_of(content: str) -> str:
    """Return a query that only this content of a workload matches: its run and its number, as a phrase. Pure."""
    return f'"{" ".join(content.split(" ", 2)[:2])}"'


@dataclass(frozen=True, slots=True)
class ReadingUser:
    """A member of ``room``, and what the member reads there. Answers that are not right become calls alone."""

    user: str
    room: Room
    caller: Caller
    reads: Reads
    sockets: Sequence[str]

    @property
    def _path(self) -> str:
        return f"/conversations/{self.room.conversation_id}"

    async def page(self, after: int | None, before: int | None, limit: int) -> HistoryPage | None:
        """Read a page of history."""
        query = {"after": after, "before": before, "limit": limit}
        answered = await self.caller.read("history", self.user, f"{self._path}/messages", MessagePage, query)
        if (found := answered.value) is None:
            return None
        messages = tuple(shown(m) for m in found.messages)
        conversation = self.room.conversation_id
        page = HistoryPage(answered.call, conversation, after, before, limit, found.head_seq, found.has_more, messages)
        self.reads.pages.append(page)
        return page

    async def whole_history(self) -> list[ShownMessage] | None:
        """Read all pages from the first message on; None when one was not answered."""
        after, found = 0, list[ShownMessage]()
        for _ in range(_PAGES_MAX):
            page = await self.page(after, None, _WHOLE_PAGE)
            if page is None:
                return None
            found += page.messages
            if not page.has_more or not page.messages:
                break
            after = page.messages[-1].seq
        return found

    async def search(self, sending: Sending) -> bool:
        """Search for an accepted message; return True when it was found."""
        assert sending.accepted is not None
        query = {"q": words_of(sending.send.content), "conversationId": self.room.conversation_id}
        answered = await self.caller.read("search", self.user, "/search", SearchPage, query)
        if (found := answered.value) is None:
            return False
        hits = tuple(shown(hit.message) for hit in found.hits)
        id_, at = sending.accepted.message_id, sending.accepted.ended
        self.reads.searches.append(Search(answered.call, id_, at, hits, bool(found.corrected)))
        return any(hit.message_id == id_ for hit in hits)

    async def whole_search(self, run: str, *, is_last: bool = False) -> WholeSearch | None:
        """Search for what every message of the run begins with, page by page."""
        query = {"q": f'"{run}"', "conversationId": self.room.conversation_id, "limit": _WHOLE_PAGE, "cursor": None}
        hits: list[ShownMessage] = []
        for _ in range(_PAGES_MAX):
            answered = await self.caller.read("search", self.user, "/search", SearchPage, query)
            if (found := answered.value) is None:
                return None
            hits += [shown(hit.message) for hit in found.hits]
            query["cursor"] = found.next
            if found.next is None:
                whole = WholeSearch(answered.call, self.room.conversation_id, tuple(hits), is_last)
                self.reads.whole_searches.append(whole)
                return whole
        return None

    async def conversations(self, *, is_last: bool = False) -> ConversationList | None:
        """Read the list of the user's conversations."""
        answered = await self.caller.read(
            "conversations", self.user, "/conversations", ConversationPage, {"limit": 200}
        )
        if (found := answered.value) is None:
            return None
        lines = tuple(
            ListedConversation(
                c.conversation_id,
                c.head_seq,
                c.unread,
                c.my_read_seq,
                c.last_at,
                None if c.last_message is None else shown(c.last_message),
            )
            for c in found.conversations
        )
        total = None if found.total is None else (found.total.unread, found.total.conversations)
        observed = ConversationList(answered.call, lines, total, is_last)
        self.reads.lists.append(observed)
        return observed

    async def notifications(self, limit: int, *, unseen: bool) -> None:
        """Read all pages of the user's notifications."""
        began, entries = time.monotonic(), list[ListedNotification]()
        query = {"limit": limit, "unseen": str(unseen).lower(), "cursor": None}
        for _ in range(_PAGES_MAX):
            answered = await self.caller.read("notifications", self.user, "/notifications", NotificationPage, query)
            if (found := answered.value) is None:
                return
            entries += [
                ListedNotification(n.notification_id, n.channel, n.seen_at is not None, shown(n.message))
                for n in found.notifications
            ]
            query["cursor"] = found.next
            if found.next is None:
                walk = NotificationWalk(self.user, began, time.monotonic(), unseen, tuple(entries))
                self.reads.walks.append(walk)
                return

    async def counts(self, *, is_last: bool = False) -> MinuteCounts | None:
        """Read the messages per minute."""
        answered = await self.caller.read(
            "analytics", self.user, f"{self._path}/analytics", ConversationAnalytics, {"limit": 10_000}
        )
        if (found := answered.value) is None:
            return None
        total = sum(minute.messages for minute in found.minutes)
        observed = MinuteCounts(answered.call, self.room.conversation_id, total, is_last)
        self.reads.counts.append(observed)
        return observed

    async def post_receipt(self, read_seq: int) -> None:
        """Report what was read, as a client without a socket does."""
        answered: Answered[None] = await self.caller.request(
            "receipt",
            self.user,
            "POST",
            f"{self._path}/receipts",
            ok=(204,),
            json={"readSeq": read_seq, "device": "page"},
        )
        self.room.receipts.append(PostedReceipt(answered.call, read_seq))

    async def use_ticket(self) -> None:
        """Get a ticket, connect with it, and try to connect with it once more."""
        answered = await self.caller.request("ticket", self.user, "POST", "/ws-ticket", ok=(201,), kind=TicketIssued)
        if answered.value is not None:
            first = await self._connected(answered.value.ticket)
            second = await self._connected(answered.value.ticket)
            self.reads.tickets.append(TicketUse(answered.call, time.monotonic(), first, second))

    async def _connected(self, ticket: str) -> str:
        """Return whom the ticket connects; nothing when it connects nobody."""
        with suppress(OSError, TimeoutError, WebSocketException, ValueError):
            async with (
                asyncio.timeout(_CONNECT_S),
                connect(f"{random.choice(self.sockets)}?ticket={ticket}", proxy=None, compression=None) as socket,
            ):
                frame = orjson.loads(await socket.recv())
                return str(frame["userId"]) if frame["type"] == "connected" else ""
        return ""

    async def intrude(self) -> None:
        """Read the conversation as a user who is no member."""
        stranger = self.room.workload.stranger
        answered = await self.caller.request(
            "history of others", stranger, "GET", f"{self._path}/messages", also=(404,), kind=MessagePage
        )
        if answered.value is not None:
            count = len(answered.value.messages)
            self.reads.strangers.append(StrangersPage(answered.call, self.room.conversation_id, count))
