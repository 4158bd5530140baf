"""Search index in PostgreSQL: full text with prefixes, trigrams for typing errors and languages without spaces."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.postgres import rows
from adapters.postgres.pool import Pool, connection, transaction
from adapters.postgres.statements import load
from domain.search import Hit, Query
from schemas.messages import Message

_SQL = load("search")
_WORD = re.compile(r"\w+")
_COSTS = {"read": 50_000, "ranked": 1000, "scanned": 5000, "compared": 200_000}
"""Bounds of the work for one search.

``read``: messages of the caller's shortest conversations, which are read without the index of words; ``ranked``: the
newest hits, of which the best come first; ``scanned``: the newest documents that are looked through for parts of words,
and of these ``compared``: the characters whose trigrams are compared when no words are found.
"""


@dataclass(frozen=True, slots=True)
class PostgresSearch:
    """Index for the stage, which writes it, and Search for members."""

    pool: Pool

    async def put(self, messages: Sequence[Message]) -> None:
        messages = list({m.message_id: m for m in messages}.values())  # a redelivered message may be in the batch twice
        columns = {
            "ids": [m.message_id for m in messages],
            "conversations": [m.conversation_id for m in messages],
            "seqs": [m.seq for m in messages],
            "senders": [m.sender_id for m in messages],
            "contents": [m.content for m in messages],
            "times": [m.created_at for m in messages],
        }
        async with connection(self.pool) as conn:
            await conn.execute(_SQL["put"], columns)

    async def search(self, user_id: str, query: Query, *, limit: int, offset: int) -> Sequence[Hit]:
        async with transaction(self.pool) as conn:
            await conn.execute(_SQL["bounds"])
            cursor = await conn.execute(_SQL["search"], parameters(user_id, query, limit=limit, offset=offset))
            return [Hit(rows.message(row), row[10], row[11]) for row in await cursor.fetchall()]


def parameters(user_id: str, query: Query, *, limit: int, offset: int) -> Mapping[str, Any]:
    """Return the parameters of the statement."""
    escaped = re.sub(r"([\\%_])", r"\\\1", query.text)
    return {
        "user_id": user_id,
        "q": query.text,
        "words": prefixes(query.text),
        "like": f"%{escaped}%",
        "conversation_id": query.conversation_id,
        "sender": query.sender_id,
        "after": query.after,
        "before": query.before,
        "limit": limit,
        "offset": offset,
        **_COSTS,
    }


def prefixes(text: str) -> str:
    """Return a tsquery for messages with every word, at least as a prefix. Only word characters get through."""
    return " & ".join(f"{word}:*" for word in _WORD.findall(text.lower()))
