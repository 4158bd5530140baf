"""The HTTP calls as one table: it gives the application its routes and OpenAPI its paths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from schemas import answers, calls
from schemas.conversation_routes import CONVERSATIONS
from schemas.fields import MAX_UPLOAD, CheckedUserId, IdempotencyKey, Uuid
from schemas.messages import Message
from schemas.operations import BODY_PROBLEMS, LOCATION, NO_CONTENT, Header, Operation, Reply

TUS = "application/offset+octet-stream"
BINARY = "application/octet-stream"
PATH_PARAMETERS: Mapping[str, Any] = {"id": Uuid, "userId": CheckedUserId}


ALWAYS = (401, 422, 429, 500, 503)
"""Error statuses that every call may answer."""

_REPLAYED = Header(
    "Idempotent-Replayed", Literal["true"], "the message was stored before, under the same key", required=True
)
_KEY = Header("Idempotency-Key", IdempotencyKey, "the same as `clientMessageId`")
_VERSION = Header("Tus-Resumable", Literal["1.0.0"], "the version of tus", required=True)
_SPOKEN = (
    Header("Tus-Version", str, "versions of tus", required=True),
    Header("Tus-Extension", str, "extensions of tus", required=True),
    Header("Tus-Max-Size", int, "the most bytes of a file", required=True),
)
_OFFSET = Header("Upload-Offset", int, "bytes that have arrived", required=True)
RATE_FIELDS = (
    Header("RateLimit-Policy", str, "the size of each budget that the call took from: `q` calls in `w` seconds"),
    Header("RateLimit", str, "what is left of it: `r` calls; all are back after `t` seconds"),
)
"""Header fields of every answer to a caller with a valid token, unless the limit is off."""
_LENGTH = Header("Upload-Length", int, "bytes of the whole file", required=True)

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
        summary="Search the messages of the caller's conversations, best first.",
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
    Operation(
        id="describeUploads",
        method="OPTIONS",
        path="/media",
        summary="Tell which parts of tus are spoken here.",
        tag="media",
        replies={204: Reply("versions and limits in headers", headers=_SPOKEN)},
        raw=True,
    ),
    Operation(
        id="createUpload",
        method="POST",
        path="/media",
        summary="Begin an upload by tus 1.0.",
        tag="media",
        content=TUS,
        headers=(
            _VERSION,
            Header("Upload-Length", int, f"the size of the file, at most {MAX_UPLOAD} bytes", required=True),
            Header("Upload-Metadata", str, "`filename` and `filetype`, each with its value in Base64"),
        ),
        replies={
            201: Reply("begun; the media id is the last part of `Location`", headers=(_VERSION, LOCATION)),
        },
        problems=(400, 412, 413, 507),
        raw=True,
        rate="uploads",
    ),
    # Before GET: HEAD belongs to the upload, it tells how far it has come.
    Operation(
        id="getUpload",
        method="HEAD",
        path="/media/{id}",
        summary="Tell how many bytes of an upload have arrived.",
        tag="media",
        headers=(_VERSION,),
        replies={204: Reply("the offset in a header", headers=(_VERSION, _OFFSET, _LENGTH))},
        problems=(404, 409, 412, 507),
        raw=True,
    ),
    Operation(
        id="continueUpload",
        method="PATCH",
        path="/media/{id}",
        summary="Send the next bytes of an upload.",
        tag="media",
        content=TUS,
        headers=(_VERSION, _OFFSET),
        replies={204: Reply("taken", headers=(_VERSION, _OFFSET))},
        problems=(400, 404, 408, 409, 412, 413, 415, 507),
        raw=True,
    ),
    Operation(
        id="describeUpload",
        method="OPTIONS",
        path="/media/{id}",
        summary="Tell which parts of tus are spoken here.",
        tag="media",
        replies={204: Reply("versions and limits in headers", headers=_SPOKEN)},
        problems=(404,),
        raw=True,
    ),
    Operation(
        id="getMedia",
        method="GET",
        path="/media/{id}",
        summary="Download a file; a picture comes without its metadata.",
        tag="media",
        replies={200: Reply("the file", content=(BINARY, "image/*"))},
        problems=(404,),
    ),
    Operation(
        id="getThumbnail",
        method="GET",
        path="/media/{id}/thumbnail",
        summary="Download the thumbnail of a picture, at most 320 pixels wide and high.",
        tag="media",
        replies={200: Reply("the thumbnail", content=("image/webp",))},
        problems=(404,),
    ),
)
BY_ID: Mapping[str, Operation] = {operation.id: operation for operation in OPERATIONS}
