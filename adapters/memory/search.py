"""Twin of the search, on dictionaries."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from adapters.memory.tables import Tables
from domain.search import Query, features
from domain.terms import is_correctable, is_near, match
from domain.words import words
from schemas.messages import Message


@dataclass(slots=True)
class MemoryIndex:
    """Index for the stage."""

    tables: Tables
    documents: dict[str, Message] = field(default_factory=dict)
    is_rebuilt: bool = False

    async def refresh(self, message_ids: Sequence[str]) -> None:
        for id_ in message_ids:
            message = self.tables.messages.get(id_)
            if message is not None and message.content.strip():
                self.documents[id_] = message
            else:
                self.documents.pop(id_, None)

    async def rebuild(self, most: int) -> int:
        ids = [] if self.is_rebuilt else list(self.tables.messages)
        self.is_rebuilt = True
        await self.refresh(ids)
        return len(ids)


@dataclass(slots=True)
class MemorySearch(MemoryIndex):
    """The same index, with Search for members."""

    async def search(self, user_id: str, query: Query, *, limit: int) -> Sequence[Message]:
        hits = [
            self.tables.messages[document.message_id]
            for document in self.documents.values()
            if self.tables.is_readable(document.conversation_id, document.seq, user_id)
            and _is_within(document, query)
            and match(query.terms, words(document.content))
        ]
        return sorted(hits, key=lambda message: message.message_id, reverse=True)[:limit]

    async def similar(self, words: Collection[str]) -> Mapping[str, Collection[str]]:
        known = self._vocabulary()
        return {word: [other for other in known if other != word and is_near(word, other)] for word in words}

    def _vocabulary(self) -> set[str]:
        said = (word.text for document in self.documents.values() for word in words(document.content))
        return {word for word in said if is_correctable(word)}


def _is_within(message: Message, query: Query) -> bool:
    at = datetime.fromisoformat(message.created_at)
    return (
        query.conversation_id in (None, message.conversation_id)
        and query.sender_id in (None, message.sender_id)
        and (query.after is None or at >= query.after)
        and (query.before is None or at < query.before)
        and query.features <= features(message)
        and (query.older_than is None or message.message_id < query.older_than)
    )
