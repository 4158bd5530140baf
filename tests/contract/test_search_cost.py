"""A search costs what its caller owns, however much others have said: read from PostgreSQL's own plans and counts."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from adapters.postgres import search as searching
from adapters.postgres.pool import Pool, open_pool, transaction
from adapters.postgres.search import PostgresSearch, Window, parameters, windows
from domain.search import Query
from domain.terms import parse
from schemas.ids import first_id, is_uuid, new_id
from schemas.messages import Message
from tests import make

FOREIGN, OWN = 20_000, 40
QUERIES = ("hello", "meeting tomorrow", "m", "zebra", "tomor", "lunch -train", "\u4f1a\u8b70", "w0 w1 w2 w3")


def sentence(dice: random.Random) -> str:
    usual = ["meeting", "tomorrow", "hello", "lunch", "the", "train", "report", "thank", "you"]
    return " ".join([*dice.choices(usual, k=6), *(f"m{dice.randrange(10**6):06d}" for _ in range(4))])


def fill(conn: psycopg.Connection[Any], user: str, messages: int) -> str:
    """A conversation of the user, with its documents."""
    dice, room = random.Random(messages), new_id()
    made = "INSERT INTO conversations (conversation_id, created_by, last_seq) VALUES (%s, %s, %s)"
    conn.execute(made, (room, user, messages))
    conn.execute("INSERT INTO members VALUES (%s, %s, 'owner', 0)", (room, user))
    said = [
        make.message(conversation_id=room, message_id=new_id(), seq=seq, sender_id=user, content=sentence(dice))
        for seq in range(1, messages + 1)
    ]
    conn.execute(searching._SQL["put"], searching.columns(said))
    stored = "message_id, conversation_id, seq, sender_id, type, content, body_hash"
    with conn.cursor().copy(f"COPY messages ({stored}) FROM STDIN".encode()) as copy:
        for m in said:
            copy.write_row((m.message_id, room, m.seq, user, m.type, m.content, b""))
    return room


@pytest.fixture(scope="module")
def filled(pg_dsn: str) -> Iterator[str]:
    """A database in which others have said much, without statistics of it."""
    with psycopg.connect(pg_dsn, autocommit=True) as conn:
        for table in ("search_documents", "messages", "members", "conversations"):
            conn.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)".encode())
        for n in range(10):
            fill(conn, f"stranger-{n}", FOREIGN // 10)
        fill(conn, "newcomer", OWN)
        yield pg_dsn


@pytest.fixture(scope="module", params=["unanalysed", "analysed"])
def dsn(request: pytest.FixtureRequest, filled: str) -> str:
    """The database before and after it has statistics. Of a module, so that all tests without come first."""
    if request.param == "analysed":
        with psycopg.connect(filled, autocommit=True) as conn:
            conn.execute("ANALYZE search_documents, messages, members, conversations")
    return filled


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[Pool]:
    """The pool as ingest has it."""
    async with open_pool(dsn, size=2, statement_s=2.0, lock_s=1.0) as opened:
        yield opened


EVERYTHING = Window("00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "read")
NOW = datetime(2026, 11, 30, tzinfo=UTC)


async def plan_of(pool: Pool, user: str, text: str, way: str = "read") -> Mapping[str, Any]:
    """The plan of a search that has run, with what it read."""
    explained = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + searching._SQL[way]
    given = parameters(user, Query(terms=parse(text)))
    async with transaction(pool) as conn:
        await conn.execute(searching._SQL["bounds"])
        bounds = {"since": EVERYTHING.since, "until": EVERYTHING.until, "limit": 21}
        row = await (await conn.execute(explained.encode(), {**given, **bounds})).fetchone()
    assert row is not None
    plan: Mapping[str, Any] = row[0][0]["Plan"]
    return plan


def nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


def documents_read(plan: Mapping[str, Any]) -> int:
    """The most documents that one scan of the index's table has read."""
    scans = [node for node in nodes(plan) if node.get("Relation Name") == "search_documents"]
    assert scans
    assert not [node for node in scans if node["Node Type"] == "Seq Scan"]
    removed = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
    return max(
        round((node["Actual Rows"] + sum(node.get(name, 0) for name in removed)) * node["Actual Loops"])
        for node in scans
    )


def pages_touched(plan: Mapping[str, Any]) -> int:
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


async def found(pool: Pool, user: str, text: str) -> list[Message]:
    return list(await PostgresSearch(pool).search(user, Query(terms=parse(text)), limit=50))


@pytest.mark.parametrize("text", QUERIES)
async def test_who_owns_little_reads_little(pool: Pool, text: str):
    plan = await plan_of(pool, "newcomer", text)
    assert documents_read(plan) <= OWN
    assert pages_touched(plan) < 50 + 6 * OWN
    assert pages_touched(await plan_of(pool, "nobody", text)) < 50


@pytest.mark.parametrize("text", QUERIES)
async def test_who_owns_much_reads_no_more_than_that(pool: Pool, text: str):
    assert documents_read(await plan_of(pool, "stranger-3", text)) <= FOREIGN // 10


async def test_a_word_that_is_rare_is_looked_up_in_the_index(pool: Pool):
    rare = next(word for word in (await found(pool, "stranger-3", "hello"))[0].content.split() if word[1:].isdigit())
    plan = await plan_of(pool, "stranger-3", rare, "look_up")
    assert "search_words" in {node.get("Index Name") for node in nodes(plan)}
    assert documents_read(plan) < 1000


@pytest.mark.parametrize("text", QUERIES)
async def test_what_is_read_in_parts_and_looked_up_is_what_is_read_at_once(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, text: str
):
    at_once = await found(pool, "newcomer", text)
    assert at_once or text in ("zebra", "\u4f1a\u8b70", "w0 w1 w2 w3")
    for parts in ((), (10,), (5, 20), (1, 1000)):
        monkeypatch.setattr(searching, "_READ", parts)
        assert await found(pool, "newcomer", text) == at_once


def test_parts_are_everything_and_do_not_overlap():
    [part] = windows(5_000, 1.0, NOW, None)
    assert part == EVERYTHING
    recent, more, rest = windows(1_000_000, 10.0, NOW, None)
    assert (recent.until, more.until, rest.until) == (EVERYTHING.until, recent.since, more.since)
    assert recent.since == first_id(NOW - timedelta(seconds=500))
    assert (rest.since, rest.way) == (EVERYTHING.since, "look_up")


@pytest.mark.parametrize("older_than", ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"])
@pytest.mark.parametrize("per_s", [1e-12, 1.0, 1e12])
def test_parts_of_any_page_are_everything_before_it(older_than: str, per_s: float):
    parts = list(windows(1_000_000, per_s, NOW, older_than))
    assert parts[0].until == older_than
    assert parts[-1].since == EVERYTHING.since
    assert all(is_uuid(part.since) and part.since <= part.until for part in parts)
    assert list(windows(0, 0.0, None, older_than)) == []
