"""The search index."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from domain.highlights import Excerpt, excerpt
from domain.terms import Terms, correctable, corrected
from schemas.messages import Message

_LINK = re.compile(r"\bhttps?://[^\s/]|\bwww\.[^\s.]", re.IGNORECASE)
FEW = 5
"""Hits below which a search also tries the words that may have been meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Terms to search for, and bounds of the search.

    ``after`` is inclusive, ``before`` exclusive; ``features`` must all be a message's own; only messages older than the
    message ``older_than`` are found.
    """

    terms: Terms
    conversation_id: str | None = None
    sender_id: str | None = None
    after: datetime | None = None
    before: datetime | None = None
    features: frozenset[str] = frozenset()
    older_than: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """Messages, newest first, each with its excerpt.

    ``corrected`` are the words that were found in place of those of the query; ``is_corrected`` says that they were
    tried, which the next page must do too.
    """

    hits: Sequence[tuple[Message, Excerpt]]
    corrected: Sequence[str] = ()
    is_corrected: bool = False


def features(message: Message) -> frozenset[str]:
    """Return what a search can ask for beside words. In capitals, so that no word of a text is one of them."""
    found = {f"TYPE:{message.type}"}
    if message.attachments:
        found.add("HAS:attachment")
    if _LINK.search(message.content):
        found.add("HAS:link")
    return frozenset(found)


class Index(Protocol):
    """Search index in the store. A document is always written from the store's message, whatever asks for it."""

    async def refresh(self, message_ids: Sequence[str]) -> None:
        """Make the documents of these messages what the store says now. Idempotent. Raises Unavailable."""

    async def rebuild(self, most: int) -> int:
        """Refresh the newest documents of an earlier analysis; return their number, 0 when none is left.

        Raises Unavailable.
        """


class Search(Protocol):
    """The index, read for members."""

    async def search(self, user_id: str, query: Query, *, limit: int) -> Sequence[Message]:
        """Return the newest hits in what the user may read. Raises Unavailable."""

    async def similar(self, words: Collection[str]) -> Mapping[str, Collection[str]]:
        """Return words that somebody has written, for each of these that they are like. Raises Unavailable."""


async def find(search: Search, user_id: str, query: Query, *, limit: int, is_corrected: bool | None = None) -> Found:
    """Search, and when little is found, also for the words that may have been meant.

    ``is_corrected`` is that of the page before. A word that others have written is named only when it is in a message
    that the user may read. Raises Unavailable.
    """
    hits: Sequence[Message] = ()
    if not is_corrected:
        hits = await search.search(user_id, query, limit=limit)
        if is_corrected is False or len(hits) >= min(FEW, limit):
            return Found([(message, excerpt(message.content, query.terms)) for message in hits])
    terms = corrected(query.terms, await search.similar(correctable(query.terms)))
    if terms != query.terms:
        more = await search.search(user_id, replace(query, terms=terms), limit=limit)
        if is_corrected or len(more) > len(hits):
            found = [(message, excerpt(message.content, terms)) for message in more]
            meant = _words(terms) - _words(query.terms)
            named = sorted({word for _, each in found for word in each.found} & meant)
            return Found(found, named, is_corrected=True)
    return Found([(message, excerpt(message.content, query.terms)) for message in hits])


def _words(terms: Terms) -> set[str]:
    return {word for phrase in terms for term in phrase.terms for word in term.words}
