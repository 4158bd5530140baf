"""Search."""

from __future__ import annotations

from dataclasses import dataclass, field

from domain.search import Query, Search, find
from domain.terms import parse
from ingest.http.params import marked_id, moment, wrong
from ingest.http.routing import Answer, Call, Endpoints
from runtime.turns import Turns
from schemas.answers import SearchHit, SearchPage
from schemas.calls import SearchQuery
from schemas.fields import MAX_QUERY

AT_ONCE = 2
"""Concurrent searches of one process. A search may take a second, and sending needs connections, too."""
_WAITING, _USERS = 4, 64
"""Searches of one user that wait for their turn, and users with a search."""
_EXACT, _CORRECTED = "e", "c"
"""Marks of cursors: pages of the query's own words, or also of those that may have been meant."""


@dataclass(frozen=True, slots=True)
class SearchEndpoints:
    """The search for messages, one at a time for each user."""

    index: Search
    turns: Turns = field(default_factory=lambda: Turns(at_once=AT_ONCE, waiting=_WAITING, keys=_USERS))

    def endpoints(self) -> Endpoints:
        return {"searchMessages": self.search}

    async def search(self, call: Call[SearchQuery, None]) -> Answer[SearchPage]:
        limit = call.query.limit
        wanted, is_corrected = _query(call.query)
        async with self.turns.of(call.user):
            if not wanted.terms:
                return Answer(SearchPage(hits=(), next=None))
            found = await find(self.index, call.user, wanted, limit=limit + 1, is_corrected=is_corrected)
        hits = tuple(
            SearchHit(message=message, highlight=excerpt.highlight, score=round(excerpt.score, 4))
            for message, excerpt in found.hits[:limit]
        )
        mark = _CORRECTED if found.is_corrected else _EXACT
        following = mark + hits[-1].message.message_id if len(found.hits) > limit else None
        return Answer(SearchPage(hits=hits, next=following, corrected=tuple(found.corrected)))


def _query(given: SearchQuery) -> tuple[Query, bool | None]:
    """Return what is searched for, and how the page before was found. Raises Invalid."""
    text = given.q.strip()
    if not text or "\x00" in text:
        raise wrong("?q", f"must have 1 to {MAX_QUERY} characters, and not only spaces")
    mark, older_than = marked_id(given.cursor, (_EXACT, _CORRECTED))
    features = {f"TYPE:{given.type}"} if given.type else set()
    if given.has:
        features.add(f"HAS:{given.has}")
    query = Query(
        terms=parse(text),
        conversation_id=given.conversation_id,
        sender_id=given.sender,
        after=moment(given.after, "after"),
        before=moment(given.before, "before"),
        features=frozenset(features),
        older_than=older_than,
    )
    return query, None if mark is None else mark == _CORRECTED
