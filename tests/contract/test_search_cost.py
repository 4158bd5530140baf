"""A search costs what its caller owns, however much others have said: read from PostgreSQL's own plans and counts."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import psycopg
import pytest

from adapters.postgres import search as searching
from adapters.postgres.pool import Pool, open_pool, transaction
from adapters.postgres.search import PostgresSearch, parameters
from domain.search import Query
from schemas.ids import new_id

FOREIGN, OWN = 20_000, 40
QUERIES = ("hello", "meeting tomorrow", "m", "zebra", "meting", "tomor", "'", "\u4f1a\u8b70", "w0 w1 w2 w3")
NEVER_SAID = ("zebra", "w0 w1 w2 w3")


def sentence(dice: random.Random) -> str:
    usual = ["meeting", "tomorrow", "hello", "lunch", "the", "train", "report", "thank", "you"]
    return " ".join([*dice.choices(usual, k=6), *(f"m{dice.randrange(10**6):06d}" for _ in range(4))])


def fill(conn: psycopg.Connection[Any], user: str, messages: int) -> str:
    """A conversation of the user, with its documents."""
    dice, room = random.Random(messages), new_id()
    made = "INSERT INTO conversations (conversation_id, created_by, last_seq) VALUES (%s, %s, %s)"
    conn.execute(made, (room, user, messages))
    conn.execute("INSERT INTO members VALUES (%s, %s, 'owner', 0)", (room, user))
    columns = "message_id, conversation_id, seq, sender_id, content, created_at"
    with conn.cursor().copy(f"COPY search_documents ({columns}) FROM STDIN".encode()) as copy:
        for seq in range(1, messages + 1):
            copy.write_row((new_id(), room, seq, user, sentence(dice), "2026-01-01"))
    stored = """INSERT INTO messages (message_id, conversation_id, seq, sender_id, type, content, body_hash)
        SELECT message_id, conversation_id, seq, sender_id, 'text', content, '' FROM search_documents
        WHERE conversation_id = %s"""
    conn.execute(stored, (room,))
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


async def plan_of(pool: Pool, user: str, text: str) -> Mapping[str, Any]:
    """The plan of a search that has run, with what it read."""
    explained = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + searching._SQL["search"]
    async with transaction(pool) as conn:
        await conn.execute(searching._SQL["bounds"])
        given = parameters(user, Query(text=text), limit=21, offset=0)
        row = await (await conn.execute(explained.encode(), given)).fetchone()
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


@pytest.mark.parametrize("text", QUERIES)
async def test_who_owns_little_reads_little(pool: Pool, text: str):
    plan = await plan_of(pool, "newcomer", text)
    assert documents_read(plan) <= OWN
    assert pages_touched(plan) < 50 + 6 * OWN
    assert pages_touched(await plan_of(pool, "nobody", text)) < 50


@pytest.mark.parametrize("text", QUERIES)
async def test_who_owns_much_reads_no_more_than_that(pool: Pool, text: str):
    assert documents_read(await plan_of(pool, "stranger-3", text)) <= FOREIGN // 10


async def test_the_index_of_words_and_the_reading_of_short_conversations_find_the_same(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
):
    search = PostgresSearch(pool)

    async def found() -> list[list[tuple[str, float]]]:
        pages = [await search.search("newcomer", Query(text=text), limit=20, offset=0) for text in QUERIES]
        return [[(hit.message.message_id, hit.score) for hit in page] for page in pages]

    read = await found()
    assert [text for text, hits in zip(QUERIES, read, strict=True) if not hits] == [
        text for text in QUERIES if text in (*NEVER_SAID, "'", "\u4f1a\u8b70")
    ]
    monkeypatch.setitem(searching._COSTS, "read", 0)
    assert await found() == read
    plan = await plan_of(pool, "newcomer", "hello")
    used = {node.get("Index Name") for node in nodes(plan) if node["Actual Loops"]}
    # Without statistics the planner may take the other index, which is led by the conversation too.
    assert used & {"search_words_by_conversation", "search_by_conversation"}
    assert documents_read(plan) <= OWN


async def test_a_typing_error_is_looked_for_in_the_newest_documents_only(pool: Pool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(searching._COSTS, "scanned", 10)
    assert documents_read(await plan_of(pool, "stranger-3", "meting")) <= FOREIGN // 10
    hits = await PostgresSearch(pool).search("stranger-3", Query(text="meting"), limit=50, offset=0)
    assert {hit.message.seq for hit in hits} <= set(range(FOREIGN // 10 - 9, FOREIGN // 10 + 1))
    assert hits


async def test_pages_beyond_the_hits_of_words_are_empty(pool: Pool):
    """Else the last page would be followed by guesses."""
    hits = await PostgresSearch(pool).search("newcomer", Query(text="meeting"), limit=50, offset=0)
    assert hits
    assert await PostgresSearch(pool).search("newcomer", Query(text="meeting"), limit=50, offset=len(hits)) == []


@pytest.mark.parametrize("text", ["eeting", "MÉÉTING"])
async def test_parts_of_words_and_letters_with_accents_find_what_the_words_find(pool: Pool, text: str):
    async def ids(asked: str) -> set[str]:
        hits = await PostgresSearch(pool).search("newcomer", Query(text=asked), limit=50, offset=0)
        return {hit.message.message_id for hit in hits}

    assert len(await ids("meeting")) > 10
    assert await ids(text) == await ids("meeting")


async def test_words_come_before_parts_of_words(pool: Pool):
    search = PostgresSearch(pool)
    hits = await search.search("newcomer", Query(text="the"), limit=50, offset=0)
    is_word = ["the" in hit.message.content.split() for hit in hits]
    assert is_word == sorted(is_word, reverse=True)
    hits = await search.search("newcomer", Query(text="or"), limit=50, offset=0)
    assert hits, "report and tomorrow have it within"
