"""Search index in PostgreSQL: words of the product's own analysis, and a vocabulary for typing errors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from typing import Any, Literal

from adapters.postgres import rows
from adapters.postgres.pool import Connection, Pool, connection, transaction
from adapters.postgres.replica import Replica, read, rows_of
from adapters.postgres.statements import load
from domain.search import Query, features
from domain.terms import Phrase, Term, Terms, is_correctable
from domain.words import VERSION, words
from schemas.ids import first_id
from schemas.messages import Message

_SQL = load("search")
_FIRST, _LAST = "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"
_READ = (5_000, 50_000)
"""Documents of the caller's that are read, newest first, before words are looked up among everybody's.

A word that is usual fills a page from the newest few; one that is rarer is read for among more; and only of one that is
rare in all of those the index's entries are few.
"""
_MOST_POSITION = 16_383
"""PostgreSQL's last position of a word. Later words are found, but not in phrases."""
_SIMILAR = 50
"""Words of the vocabulary that are compared with a word of the query, those with most parts in common."""
_KNOWN = 50_000
"""Words that a process remembers to be in the vocabulary."""


@dataclass(frozen=True, slots=True)
class Window:
    """Part of the messages: from the id ``since`` on, before the id ``until``."""

    since: str
    until: str
    way: Literal["read", "look_up"]


@dataclass(frozen=True, slots=True)
class PostgresSearch:
    """Index for the stage, which writes it, and Search for members, who may read a replica."""

    pool: Pool
    replica: Replica | None = None
    _known: set[str] = field(default_factory=set, repr=False, compare=False)

    async def refresh(self, message_ids: Sequence[str]) -> None:
        async with connection(self.pool) as conn:
            await self._refresh(conn, message_ids)

    async def _refresh(self, conn: Connection, message_ids: Sequence[str]) -> None:
        ids = sorted(set(message_ids))
        found = await (await conn.execute(_SQL["stored"], {"ids": ids})).fetchall()
        messages = [message for message in map(rows.message, found) if message.content.strip()]
        if gone := sorted(set(ids) - {message.message_id for message in messages}):
            await conn.execute(_SQL["forget"], {"ids": gone})
        if messages:
            await conn.execute(_SQL["put"], columns(messages))
            await self._learn(conn, messages)

    async def _learn(self, conn: Connection, messages: Sequence[Message]) -> None:
        """Add the messages' words to the vocabulary, in order, so that two who do it do not wait for each other."""
        said = {word.text for message in messages for word in words(message.content) if is_correctable(word.text)}
        if new := sorted(said - self._known):
            await conn.execute(_SQL["learn"], {"words": new})
            if len(self._known) > _KNOWN:
                self._known.clear()
            self._known.update(new)

    async def rebuild(self, most: int) -> int:
        try:
            async with transaction(self.pool) as conn:
                return await self._rebuild(conn, most)
        except BaseException:  # cancelled, too: the vocabulary may lack what the transaction would have added
            self._known.clear()
            raise

    async def _rebuild(self, conn: Connection, most: int) -> int:
        version = {"version": VERSION}
        await conn.execute(_SQL["begin_rebuild"], version)
        held = await (await conn.execute(_SQL["hold_rebuild"], version)).fetchone()
        assert held is not None
        if held[0] == _FIRST:
            return 0
        cursor = await conn.execute(_SQL["older"], {"reached": held[0], "most": most})
        ids = [row[0] for row in await cursor.fetchall()]
        if ids:
            await self._refresh(conn, ids)
        await conn.execute(_SQL["note_rebuild"], {**version, "reached": ids[-1] if ids else _FIRST})
        return len(ids)

    async def search(self, user_id: str, query: Query, *, limit: int) -> Sequence[Message]:
        work = partial(_search, parameters(user_id, query), query.older_than, limit)
        return await read(self.pool, self.replica, work)

    async def similar(self, words: Collection[str]) -> Mapping[str, Collection[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        if words:
            params = {"words": sorted(words), "most": _SIMILAR}
            for word, other in await read(self.pool, self.replica, partial(_similar, params)):
                found[word].append(other)
        return found


async def _search(values: Mapping[str, Any], older_than: str | None, limit: int, conn: Connection) -> list[Message]:
    found: list[Message] = []
    async with conn.transaction():
        await conn.execute(_SQL["bounds"])
        [(readable, per_s, newest)] = await rows_of(_SQL["scope"], values, conn)
        for window in windows(readable, per_s, newest, older_than):
            bounds = {"since": window.since, "until": window.until, "limit": limit - len(found)}
            found += map(rows.message, await rows_of(_SQL[window.way], {**values, **bounds}, conn))
            if len(found) >= limit:
                break
    return found


async def _similar(params: Mapping[str, Any], conn: Connection) -> list[tuple[Any, ...]]:
    async with conn.transaction():
        await conn.execute(_SQL["similarity"])
        return await rows_of(_SQL["similar"], params, conn)


def windows(readable: float, per_s: float, newest: datetime | None, older_than: str | None) -> Iterator[Window]:
    """Yield the parts of the messages in which to search, newest first, until a page is full.

    ``readable`` is at least the number of messages in the caller's conversations, ``per_s`` at what rate they were
    written. Where a part ends is an estimate, and all of them together are everything.
    """
    until = older_than or _LAST
    if newest is None:
        return
    if older_than is not None:
        newest = min(newest, _time(older_than, newest))
    for count in _READ:
        if readable <= count:
            yield Window(_FIRST, until, "read")
            return
        since = first_id(_before(newest, count / per_s))
        if since < until:
            yield Window(since, until, "read")
            until = since
    yield Window(_FIRST, until, "look_up")


def _before(at: datetime, seconds: float) -> datetime:
    return at - timedelta(seconds=min(seconds, at.timestamp()))


def _time(id_: str, newest: datetime) -> datetime:
    """Return when a UUIDv7 was made."""
    return datetime.fromtimestamp(min(int(id_[:8] + id_[9:13], 16) / 1000, newest.timestamp()), newest.tzinfo)


def parameters(user_id: str, query: Query) -> Mapping[str, Any]:
    """Return what the statements of a search are given."""
    return {
        "user_id": user_id,
        "words": tsquery(query.terms, query.features),
        "conversation_id": query.conversation_id,
        "sender": query.sender_id,
        "after": query.after,
        "before": query.before,
    }


def columns(messages: Sequence[Message]) -> Mapping[str, Sequence[Any]]:
    """Return the columns of the messages' documents."""
    return {
        "ids": [m.message_id for m in messages],
        "conversations": [m.conversation_id for m in messages],
        "seqs": [m.seq for m in messages],
        "senders": [m.sender_id for m in messages],
        "words": [tsvector(m) for m in messages],
        "digests": [digest(m.content) for m in messages],
        "times": [m.created_at for m in messages],
    }


def digest(content: str) -> bytes:
    """Return what a document keeps of the content, so that the audit sees when it is another."""
    return sha256(content.encode()).digest()[:16]


def tsvector(message: Message) -> str:
    """Return the document of a message: its words with their positions, and its features without."""
    places: dict[str, list[str]] = defaultdict(list)
    for at, word in enumerate(words(message.content), 1):
        places[word.text].append(str(min(at, _MOST_POSITION)))
    said = [f"{_quoted(word)}:{','.join(at)}" for word, at in places.items()]
    return " ".join([*said, *map(_quoted, sorted(features(message)))])


def tsquery(terms: Terms, wanted: Iterable[str] = ()) -> str:
    """Return the query of these terms and features."""
    return " & ".join([*map(_phrase, terms), *map(_quoted, sorted(wanted))])


def _phrase(phrase: Phrase) -> str:
    first, *rest = phrase.terms
    text = _term(first) + "".join(f" <{term.gap}> {_term(term)}" for term in rest)
    return f"!({text})" if phrase.is_excluded else f"({text})"


def _term(term: Term) -> str:
    return f"({' | '.join(_quoted(word) + ':*' * term.is_prefix for word in term.words)})"


def _quoted(word: str) -> str:
    return "'" + word.replace("\\", "\\\\").replace("'", "''") + "'"
