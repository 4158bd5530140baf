"""The HTTP calls as one table: it gives the application its routes and OpenAPI its paths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from schemas import answers, calls
from schemas.conversation_routes import CONVERSATIONS
from schemas.fields import CheckedUserId, IdempotencyKey, Uuid
from schemas.media_routes import MEDIA
from schemas.messages import Message
from schemas.operations import BODY_PROBLEMS, LOCATION, NO_CONTENT, Header, Operation, Reply

PATH_PARAMETERS: Mapping[str, Any] = {"id": Uuid, "userId": CheckedUserId}


ALWAYS = (401, 422, 429, 500, 503)
"""Error statuses that every call may answer."""

_REPLAYED = Header(
    "Idempotent-Replayed", Literal["true"], "the message was stored before, under the same key", required=True
)
_KEY = Header("Idempotency-Key", IdempotencyKey, "the same as `clientMessageId`")
RATE_FIELDS = (
    Header("RateLimit-Policy", str, "the size of each budget that the call took from: `q` calls in `w` seconds"),
    Header("RateLimit", str, "what is left of it: `r` calls; all are back after `t` seconds"),
)
"""Header fields of every answer to a caller with a valid token, unless the limit is off."""
OPERATIONS: tuple[Operation, ...] = (
    *CONVERSATIONS,
    Operation(
        id="sendMessage",
        method="POST",
        path="/messages",
        summary="Send a message. A repeat with the same key answers 200 with the same place.",
        tag="messages",
        body=calls.NewMessage,
        headers=(_KEY,),
        replies={
            201: Reply("stored for good", answers.MessageAccepted, headers=(LOCATION,)),
            200: Reply("stored before, under the same key", answers.MessageAccepted, headers=(LOCATION, _REPLAYED)),
        },
        problems=(403, 404, *BODY_PROBLEMS),
        rate="messages",
    ),
    Operation(
        id="listMessages",
        method="GET",
        path="/conversations/{id}/messages",
        summary="List messages by ascending seq: after `after`, else the newest before `before`.",
        tag="messages",
        query=calls.MessagesQuery,
        replies={200: Reply("a page", answers.MessagePage)},
        problems=(404, 422),
    ),
    Operation(
        id="getMessage",
        method="GET",
        path="/messages/{id}",
        summary="Read one message.",
        tag="messages",
        replies={200: Reply("the message", Message)},
        problems=(404,),
    ),
    Operation(
        id="listMessageReceipts",
        method="GET",
        path="/messages/{id}/receipts",
        summary="List the status of one message with each other member.",
        tag="receipts",
        replies={200: Reply("the receipts", answers.MessageReceipts)},
        problems=(404,),
    ),
    Operation(
        id="recordReceipt",
        method="POST",
        path="/conversations/{id}/receipts",
        summary="Record a watermark of the caller's device; for clients without a socket.",
        tag="receipts",
        body=calls.NewReceipt,
        replies={204: NO_CONTENT},
        problems=(404, *BODY_PROBLEMS),
        rate="receipts",
    ),
    Operation(
        id="searchMessages",
        method="GET",
        path="/search",
        summary="Search the messages of the caller's conversations, newest first.",
        tag="search",
        query=calls.SearchQuery,
        replies={200: Reply("a page", answers.SearchPage)},
        problems=(422,),
        rate="search",
    ),
    Operation(
        id="listNotifications",
        method="GET",
        path="/notifications",
        summary="List the caller's notifications, newest first.",
        tag="notifications",
        query=calls.NotificationsQuery,
        replies={200: Reply("a page", answers.NotificationPage)},
        problems=(422,),
    ),
    Operation(
        id="markNotificationsSeen",
        method="POST",
        path="/notifications/seen",
        summary="Mark a notification and all older ones as seen. Idempotent.",
        tag="notifications",
        body=calls.SeenUpTo,
        replies={204: NO_CONTENT},
        problems=BODY_PROBLEMS,
    ),
    Operation(
        id="getAnalytics",
        method="GET",
        path="/conversations/{id}/analytics",
        summary="List the messages of a conversation by minute, newest first.",
        tag="analytics",
        query=calls.AnalyticsQuery,
        replies={200: Reply("the minutes", answers.ConversationAnalytics)},
        problems=(404, 422),
    ),
    Operation(
        id="issueTicket",
        method="POST",
        path="/ws-ticket",
        summary="Issue a ticket that opens one WebSocket, for pages of the request's `Origin`, if it has one.",
        tag="tickets",
        headers=(Header("Origin", str, "the page that will connect"),),
        replies={201: Reply("the ticket", answers.TicketIssued)},
        problems=(422,),
        rate="tickets",
    ),
    Operation(
        id="getLimits",
        method="GET",
        path="/limits",
        summary="Read what is left of each of the caller's budgets.",
        tag="limits",
        replies={200: Reply("the budgets", answers.BudgetList)},
    ),
    *MEDIA,
)
BY_ID: Mapping[str, Operation] = {operation.id: operation for operation in OPERATIONS}
