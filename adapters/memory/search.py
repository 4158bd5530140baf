"""Twin of the search: matches words by their beginnings, without typing errors."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from adapters.memory.effects import MemoryIndex
from adapters.memory.tables import Tables
from domain.search import Hit, Query
from schemas.messages import Message

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class MemorySearch:
    """Search over the index. The score is the share of a message's words that were found."""

    tables: Tables
    index: MemoryIndex

    async def search(self, user_id: str, query: Query, *, limit: int, offset: int) -> Sequence[Hit]:
        words = _WORD.findall(query.text.lower())
        hits = [
            Hit(self.tables.messages[document.message_id], _highlight(document.content, words), score)
            for document in self.index.documents.values()
            if self.tables.is_readable(document.conversation_id, document.seq, user_id)
            and _is_within(document, query)
            and (score := _score(document.content, words)) > 0
        ]
        hits.sort(key=lambda hit: (hit.score, hit.message.created_at, hit.message.message_id), reverse=True)
        return hits[offset : offset + limit]


def _is_within(message: Message, query: Query) -> bool:
    at = datetime.fromisoformat(message.created_at)
    return (
        query.conversation_id in (None, message.conversation_id)
        and query.sender_id in (None, message.sender_id)
        and (query.after is None or at >= query.after)
        and (query.before is None or at < query.before)
    )


def _score(content: str, words: Sequence[str]) -> float:
    present = _WORD.findall(content.lower())
    if not words or not all(any(one.startswith(word) for one in present) for word in words):
        return 0
    found = [one for one in present if one.startswith(tuple(words))]
    return len(found) / len(present)


def _highlight(content: str, words: Sequence[str]) -> str:
    def mark(found: re.Match[str]) -> str:
        word = found[0]
        return f"<mark>{word}</mark>" if word.lower().startswith(tuple(words)) else word

    parts = re.split(r"(\W+)", content)
    return "".join(html.escape(part, quote=False) if n % 2 else _WORD.sub(mark, part) for n, part in enumerate(parts))
