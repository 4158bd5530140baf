"""What the stages have made of messages: search, notifications, counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from adapters.postgres.analytics import PostgresCounts
from adapters.postgres.notifications import Notification, PostgresNotifications
from adapters.postgres.search import PostgresSearch, Query
from domain.errors import Invalid, NotFound
from domain.history import History
from ingest.http.auth import Edge, json_body, page_size, whole
from ingest.http.problems import json
from ingest.http.validation import parse
from schemas.clock import wire_time
from schemas.frames import wire
from schemas.ids import is_uuid

_MAX_QUERY = 200
_MAX_OFFSET = 1000


class Seen(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The body of ``POST /notifications/seen``: this one and all older ones."""

    up_to: str


@dataclass(frozen=True, slots=True)
class FoundCalls:
    """Calls that read what the stages wrote."""

    edge: Edge
    history: History
    index: PostgresSearch
    notifications: PostgresNotifications
    counts: PostgresCounts

    def routes(self) -> list[Route]:
        return [
            Route("/search", self.search, methods=["GET"]),
            Route("/notifications", self.list, methods=["GET"]),
            Route("/notifications/seen", self.seen, methods=["POST"]),
            Route("/conversations/{id}/analytics", self.analytics, methods=["GET"]),
        ]

    async def search(self, request: Request) -> Response:
        """Messages of the caller's conversations, best first."""
        user = await self.edge.caller(request)
        query = request.query_params
        text = query.get("q", "").strip()
        if not 0 < len(text) <= _MAX_QUERY or "\x00" in text:
            raise Invalid(f"q is what you look for, 1 to {_MAX_QUERY} characters", [("?q", "not in range")])
        conversation_id = query.get("conversationId")
        if conversation_id is not None and not is_uuid(conversation_id):
            raise Invalid("conversationId is a UUID in lower case", [("?conversationId", "expected a UUID")])
        limit = page_size(query, most=100)
        offset = whole(query, "cursor", default=0, most=_MAX_OFFSET) or 0
        asked = Query(
            text=text,
            conversation_id=conversation_id,
            sender_id=query.get("from"),
            after=moment(query, "after"),
            before=moment(query, "before"),
        )
        hits = await self.index.search(user, asked, limit=limit + 1, offset=offset)
        following = str(offset + limit) if len(hits) > limit and offset + limit <= _MAX_OFFSET else None
        return json(
            {
                "hits": [
                    {"message": wire(hit.message), "highlight": hit.highlight, "score": round(hit.score, 4)}
                    for hit in hits[:limit]
                ],
                "next": following,
            }
        )

    async def list(self, request: Request) -> Response:
        """The caller's notifications, newest first; ``?unseen=true`` for those not seen yet."""
        user = await self.edge.caller(request)
        query = request.query_params
        before, limit = query.get("cursor"), page_size(query)
        if before is not None and not is_uuid(before):
            raise Invalid("cursor is none that was given; start without one", [("?cursor", "unknown")])
        unseen = query.get("unseen", "false").lower() in ("", "1", "true")
        found = await self.notifications.page(user, unseen=unseen, before=before, limit=limit + 1)
        kept = found[:limit]
        return json(
            {
                "notifications": [_notification(n) for n in kept],
                "next": kept[-1].notification_id if len(found) > limit else None,
            }
        )

    async def seen(self, request: Request) -> Response:
        """204: this notification and all older ones are seen."""
        user = await self.edge.caller(request)
        body = parse(Seen, await json_body(request))
        if not is_uuid(body.up_to):
            raise Invalid("upTo is a notificationId", [("$.upTo", "expected a UUID")])
        await self.notifications.mark_seen(user, body.up_to)
        return Response(status_code=204)

    async def analytics(self, request: Request) -> Response:
        """Messages per minute of one conversation, newest first; ``?from`` and ``?to`` bound the minutes."""
        user = await self.edge.caller(request)
        conversation_id, query = request.path_params["id"], request.query_params
        if await self.history.member_since(conversation_id, user) is None:
            raise NotFound("no such conversation, or you are not a member of it")
        start, end = moment(query, "from"), moment(query, "to")
        limit = whole(query, "limit", default=1440, most=10_080) or 1
        rows = await self.counts.minutes(conversation_id, start, end, limit)
        return json(
            {
                "conversationId": conversation_id,
                "minutes": [{"minute": wire_time(minute), "messages": count} for minute, count in rows],
            }
        )


def _notification(notification: Notification) -> dict[str, object]:
    return {
        "notificationId": notification.notification_id,
        "channel": notification.channel,
        "createdAt": wire_time(notification.created_at),
        "seenAt": wire_time(notification.seen_at) if notification.seen_at else None,
        "message": wire(notification.message),
    }


def moment(query: Mapping[str, str], name: str) -> datetime | None:
    """A query parameter that is an RFC 3339 time. Raises Invalid."""
    text = query.get(name)
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text.replace(" ", "+"))  # a + in a query arrives as a space
    except ValueError as exc:
        raise Invalid(f"{name} is an RFC 3339 time", [(f"?{name}", "expected a time")]) from exc
    return at if at.tzinfo else at.replace(tzinfo=UTC)
