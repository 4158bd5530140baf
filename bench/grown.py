"""Database with a number of messages, filled by SQL, and the product's calls to it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from statistics import median
from typing import TypeAlias
from urllib.parse import urlsplit

import orjson

from adapters.postgres.audit import PostgresAudit
from adapters.postgres.conversations import PostgresConversations
from adapters.postgres.history import PostgresHistory
from adapters.postgres.intake import PostgresIntake
from adapters.postgres.messages import PostgresMessages
from adapters.postgres.migrate import ensure_database, migrate
from adapters.postgres.outbox import open_outbox
from adapters.postgres.pool import Pool, connection, open_pool
from adapters.postgres.search import PostgresSearch
from adapters.postgres.statuses import PostgresStatuses
from bench.process import HERE
from domain.audit import Span
from domain.drafts import Accepted, Draft
from domain.log_position import Position
from domain.search import Query, find
from domain.terms import parse as parse_terms
from domain.watermarks import Watermark
from ingest.http.params import parse
from ingest.http.validation import draft
from schemas.calls import NewMessage
from schemas.ids import new_id

Call: TypeAlias = Callable[[], Awaitable[object]]
Prepare: TypeAlias = Callable[[], Awaitable[Call]]
"""Does what is not measured; returns the call that is."""

LARGE, SMALL = "01910000-0000-7000-8000-000000000001", "01910000-0000-7000-8000-0000000007d2"
"""Conversations 1 and 2002 of ``grown.sql``."""
CALLS = 200
_FILL_S = 1800.0
_PAGE, _RESUMED, _EVERYBODY = 50, 200, 32
_FAR_FROM, _FAR_TO = 2000, 3000
TABLES = ("messages", "changes", "outbox", "search_documents")
_RESET = (
    "UPDATE messages SET status = 1 WHERE conversation_id = %s AND seq > %s AND seq <= %s",
    "DELETE FROM device_receipts WHERE conversation_id = %s AND user_id = 'far'",
    "INSERT INTO receipts (conversation_id, user_id, delivered_seq, read_seq) VALUES (%s, 'far', %s, %s)"
    " ON CONFLICT (conversation_id, user_id) DO UPDATE"
    " SET delivered_seq = excluded.delivered_seq, read_seq = excluded.read_seq",
)


@dataclass(slots=True)
class Grown:
    """Database of so many messages."""

    size: int
    dsn: str = field(repr=False)
    pool: Pool = field(repr=False)
    room: str
    head: int
    words: list[str] = field(repr=False)
    _reached: int = 0
    _searched: int = 0

    async def median_ms(self, prepare: Prepare, calls: int = CALLS) -> float:
        """Return the median of the milliseconds of so many calls, one after the other."""
        taken = []
        for _ in range(calls):
            call = await prepare()
            began = time.perf_counter()
            await call()
            taken.append((time.perf_counter() - began) * 1000)
        return median(taken)

    def drafts(self, count: int) -> list[Draft]:
        """Return so many new messages."""
        body = orjson.dumps({"conversationId": self.room, "type": "text", "content": " ".join(self.words[:9])})
        new = parse(NewMessage, body)
        return [draft(new, sender_id="u1", idempotency_key=new_id()) for _ in range(count)]

    async def store(self, count: int) -> Call:
        return partial(PostgresIntake(self.pool).accept, self.drafts(count), wait=True)

    async def page(self) -> Call:
        return partial(PostgresMessages(self.pool).page, LARGE, None, None, _PAGE, 0)

    async def resume(self) -> Call:
        return partial(PostgresHistory(self.pool).changes, LARGE, self.head - _RESUMED, self.head, _RESUMED)

    async def listed(self) -> Call:
        async def both() -> None:  # as GET /conversations does
            conversations = PostgresConversations(self.pool)
            await conversations.mine("many", None, _PAGE)
            await conversations.unread("many")

        return both

    async def receipt(self) -> Call:
        self._reached += 1
        mark = Watermark(LARGE, "reader", self._reached, 0)
        return partial(PostgresStatuses(self.pool).advance, [mark], _EVERYBODY)

    async def far_receipt(self) -> Call:
        """Set a reader back by a thousand messages, which then are read at once."""
        places = [(LARGE, _FAR_FROM, _FAR_TO), (LARGE,), (LARGE, _FAR_FROM, _FAR_FROM)]
        async with connection(self.pool) as conn:
            for statement, values in zip(_RESET, places, strict=True):
                await conn.execute(statement.encode(), values)
        mark = Watermark(LARGE, "far", _FAR_TO, _FAR_TO)
        return partial(PostgresStatuses(self.pool).advance, [mark], _EVERYBODY)

    async def search(self, user: str) -> Call:
        self._searched += 1
        query = Query(terms=parse_terms(self.words[self._searched % len(self.words)]))
        return partial(find, PostgresSearch(self.pool), user, query, limit=_PAGE)

    async def audit(self) -> Call:
        async def both() -> None:
            audit = PostgresAudit(self.pool)
            await audit.spans(datetime.now(UTC) - timedelta(hours=1), [SMALL])
            await audit.facts([Span(SMALL, 1)])

        return both

    async def vacuum(self) -> None:
        """Do what autovacuum would have done by now."""
        async with connection(self.pool) as conn:
            await conn.execute("VACUUM (ANALYZE)")

    async def wal_bytes(self) -> Mapping[str, float]:
        """Return the bytes of WAL of a message, in batches of 16: when it is stored, and in all of its steps."""
        statuses, search, stored, whole, messages = PostgresStatuses(self.pool), PostgresSearch(self.pool), 0, 0, 0
        async with open_outbox(self.dsn) as outbox:
            await outbox.compare(Position(cluster_id="bench", replication=1, ends={}))
            await outbox.claim()
            while owed := await outbox.unpublished(500):  # what was stored before
                await outbox.mark(owed, {})
            for _ in range(CALLS // 10):
                begin = await self._lsn()
                outcomes = await PostgresIntake(self.pool).accept(self.drafts(16), wait=True)
                stored += await self._lsn() - begin
                new = [outcome.message for outcome in outcomes if isinstance(outcome, Accepted)]
                await outbox.mark(await outbox.unpublished(500), {})
                await statuses.mark_sent(new)
                await search.refresh([message.message_id for message in new])
                whole += await self._lsn() - begin
                messages += len(new)
        return {"stored": stored / messages, "whole": whole / messages}

    async def _lsn(self) -> int:
        async with connection(self.pool) as conn:
            row = await (await conn.execute("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint")).fetchone()
        assert row is not None
        return int(row[0])

    async def disk_bytes(self) -> dict[str, float]:
        """Return the bytes on disk of a row of each large table, with its indexes."""
        async with connection(self.pool) as conn:
            found = await conn.execute(
                "SELECT relname, pg_total_relation_size(oid) / greatest(reltuples, 1) FROM pg_class"
                " WHERE relname = ANY(%s) AND relkind = 'r'",
                (list(TABLES),),
            )
            return {name: round(size) for name, size in await found.fetchall()}


@asynccontextmanager
async def grown(server: str, size: int) -> AsyncIterator[Grown]:
    """Fill a new database of this server with so many messages, and yield it."""
    dsn = urlsplit(server)._replace(path=f"/grown_{size}").geturl()
    ensure_database(dsn)
    migrate(dsn)
    async with open_pool(dsn, size=2, wait_s=30, statement_s=_FILL_S) as pool:
        async with connection(pool) as conn:
            await conn.execute("SELECT set_config('bench.messages', %s, false)", (str(size),))
            await conn.execute((HERE / "grown.sql").read_bytes(), prepare=False)  # many statements
            words = await conn.execute("SELECT word FROM search_vocabulary ORDER BY md5(word) LIMIT 1000")
            found = [row[0] for row in await words.fetchall()]
        room = new_id()
        await PostgresConversations(pool).create(room, None, "u1", ["u2", "u3"])
        made = Grown(size, dsn, pool, room, size * 3 // 10, found)
        await made.vacuum()
        yield made
