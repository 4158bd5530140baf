"""Search."""

from __future__ import annotations

from dataclasses import dataclass, field

from domain.search import Query, Search
from ingest.http.params import moment, offset, wrong
from ingest.http.routing import Answer, Call, Endpoints
from runtime.turns import Turns
from schemas.answers import SearchHit, SearchPage
from schemas.calls import SearchQuery
from schemas.fields import MAX_QUERY, MAX_SEARCH_OFFSET

AT_ONCE = 2
"""Concurrent searches of one process. A search may take a second, and sending needs connections, too."""
_WAITING, _USERS = 4, 64
"""Searches of one user that wait for their turn, and users with a search."""


@dataclass(frozen=True, slots=True)
class SearchEndpoints:
    """The search for messages, one at a time for each user."""

    index: Search
    turns: Turns = field(default_factory=lambda: Turns(at_once=AT_ONCE, waiting=_WAITING, keys=_USERS))

    def endpoints(self) -> Endpoints:
        return {"searchMessages": self.search}

    async def search(self, call: Call[SearchQuery, None]) -> Answer[SearchPage]:
        query, limit = call.query, call.query.limit
        text = query.q.strip()
        if not text or "\x00" in text:
            raise wrong("?q", f"must have 1 to {MAX_QUERY} characters, and not only spaces")
        start = offset(query.cursor, MAX_SEARCH_OFFSET)
        wanted = Query(
            text=text,
            conversation_id=query.conversation_id,
            sender_id=query.sender,
            after=moment(query.after, "after"),
            before=moment(query.before, "before"),
        )
        async with self.turns.of(call.user):
            found = await self.index.search(call.user, wanted, limit=limit + 1, offset=start)
        following = str(start + limit) if len(found) > limit and start + limit <= MAX_SEARCH_OFFSET else None
        hits = tuple(
            SearchHit(message=hit.message, highlight=hit.highlight, score=round(hit.score, 4)) for hit in found[:limit]
        )
        return Answer(SearchPage(hits=hits, next=following))
