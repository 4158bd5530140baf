"""What grows in the database, and what bounds it: rows that have outlived their time are deleted, and no others."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from adapters.postgres.pool import Pool
from adapters.postgres.retention import PostgresPruning
from adapters.postgres.statements import load
from domain.retention import BOUNDS, DAY_S, RULES, Kept, Rule, Step
from schemas.ids import first_id, new_id

STATEMENTS = load("retention")
KEPT = Kept(
    published_events_s=DAY_S,
    seen_notifications_s=10 * DAY_S,
    unseen_notifications_s=20 * DAY_S,
    analytics_minutes_s=DAY_S,
    silent_devices_s=DAY_S,
    operator_actions_s=31 * DAY_S,
)
PAGE = Path(__file__).parents[2] / "docs" / "operating.md"
BY_TABLE = {rule.table: rule for rule in RULES}
NOT_OURS = re.compile(r"^_yoyo_|^yoyo_")
"""Tables of the library of migrations, which have a row for each of these."""


def id_of(days: float) -> str:
    """A new UUIDv7 of so many days ago."""
    return first_id(datetime.now(UTC) - timedelta(days=days))[:18] + new_id()[18:]


async def insert(pool: Pool, table: str, **row: Any) -> None:
    columns = sql.SQL(", ").join(map(sql.Identifier, row))
    values = sql.SQL(", ").join(map(sql.Placeholder, row))
    async with pool.connection() as conn:
        await conn.execute(
            sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(sql.Identifier(table), columns, values), row
        )


async def count(pool: Pool, table: str) -> int:
    async with pool.connection() as conn:
        found = await conn.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table)))
        [(rows,)] = await found.fetchall()
        return int(rows)


def ago(days: float) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


async def add(pool: Pool, table: str, days: float) -> None:
    """Add a row of that age, whose time is a day for most tables."""
    one, at = new_id(), ago(days)
    rows: dict[str, dict[str, Any]] = {
        "outbox": {"conversation_id": one, "seq": 1, "shard": 1, "topic": "t", "value": b"", "event_id": one}
        | {"published_at": at},
        "tickets": {"ticket_hash": one.encode(), "user_id": "u", "jti": one, "issued_at": 0, "token_expires_at": 0}
        | {"ends": at + timedelta(days=1)},
        "idempotency_keys": {"user_id": "u", "key": one, "request_hash": b"", "status": 201}
        | {"ends": at + timedelta(days=1)},
        "notifications": {"notification_id": id_of(days * 20), "user_id": "u", "conversation_id": one}
        | {"message_id": one, "seq": 1, "channel": "c", "created_at": ago(days * 20), "number": -int(days * 1e9)},
        "analytics_minutes": {"conversation_id": one, "minute": at, "messages": 1},
        "device_receipts": {"conversation_id": one, "user_id": "u", "device": "d", "delivered_seq": 1, "read_seq": 1}
        | {"at": at},
        "revocations": {"user_id": "u", "ends": at + timedelta(days=1)},
        "dead_letters_closed": {"letter_id": one, "stage": "search", "closed_at": ago(days * 8)},
        "skipped_records": {"reader": "r", "topic": one, "partition": 0, "log_offset": 1, "digest": b""}
        | {"skipped_at": ago(days * 31)},
        "audit_heals": {"message_id": one, "conversation_id": one, "seq": 1, "at": ago(days * 31)},
        "operator_actions": {"operator": "o", "command": "c", "scope": "{}", "at": ago(days * 31)},
    }
    if table == "device_receipts":
        await insert(pool, "conversations", conversation_id=one, created_by="u")
    await insert(pool, table, **rows[table])


TIMED = [rule for rule in RULES if rule.table not in ("outbox_floors", "log_ends")]


@pytest.fixture(autouse=True)
async def empty(pool: Pool) -> None:
    names = sql.SQL(", ").join(sql.Identifier(rule.table) for rule in RULES)
    async with pool.connection() as conn:
        await conn.execute(sql.SQL("TRUNCATE {}").format(names))


async def prune(pool: Pool, rule: Rule, limit: int = 100) -> list[Step]:
    """Prune a whole round; return its steps."""
    steps = [await PostgresPruning(pool, KEPT).prune(rule, None, limit)]
    while (after := steps[-1].after) is not None:
        steps.append(await PostgresPruning(pool, KEPT).prune(rule, after, limit))
    return steps


@pytest.mark.parametrize("rule", TIMED, ids=lambda rule: rule.table)
async def test_old_rows_are_deleted_a_few_at_a_time_and_young_ones_stay(pool: Pool, rule: Rule):
    for n in range(7):
        await add(pool, rule.table, 1.01 + n / 10)
    for n in range(3):
        await add(pool, rule.table, 0.9 - n / 10)
    steps = await prune(pool, rule, 3)
    assert max(step.rows for step in steps) <= 3
    assert (sum(step.rows for step in steps), await count(pool, rule.table)) == (7, 3)
    assert [step.rows for step in await prune(pool, rule)] == [0]


@pytest.mark.parametrize("rule", TIMED, ids=lambda rule: rule.table)
async def test_two_processes_may_prune_at_once(pool: Pool, rule: Rule):
    for n in range(40):
        await add(pool, rule.table, 1.01 + n / 100)
    both = await asyncio.gather(prune(pool, rule, 7), prune(pool, rule, 7))
    assert sum(step.rows for steps in both for step in steps) == 40 - await count(pool, rule.table)
    await prune(pool, rule)
    assert await count(pool, rule.table) == 0


@pytest.mark.parametrize("rule", [rule for rule in TIMED if rule.by != "audit"], ids=lambda rule: rule.table)
async def test_a_row_that_somebody_holds_is_passed_over_and_nobody_waits(pool: Pool, pg_dsn: str, rule: Rule):
    await add(pool, rule.table, 1.5)
    table = sql.Identifier(rule.table)
    async with await psycopg.AsyncConnection.connect(pg_dsn) as holder:
        await holder.execute(sql.SQL("SELECT 1 FROM {} FOR UPDATE").format(table))
        await add(pool, rule.table, 1.4)
        async with asyncio.timeout(1.5):  # the bound of a lock is 2 s
            assert sum(step.rows for step in await prune(pool, rule)) == 1
    assert [step.rows for step in await prune(pool, rule)] == [1]


async def test_unseen_notifications_are_kept_for_longer_than_seen_ones(pool: Pool):
    for n, (days, seen) in enumerate([(9, True), (11, True), (11, False), (21, False), (21, True)]):
        await insert(
            pool,
            "notifications",
            notification_id=id_of(days),
            user_id="bob",
            conversation_id=new_id(),
            message_id=new_id(),
            seq=1,
            channel="in_app",
            created_at=ago(days),
            seen_at=ago(1) if seen else None,
            number=n,
        )
    await prune(pool, BY_TABLE["notifications"], 2)
    async with pool.connection() as conn:
        found = await conn.execute("SELECT number FROM notifications ORDER BY number")
        assert await found.fetchall() == [(0,), (2,)]


async def test_what_is_not_published_stays_in_the_outbox_however_old(pool: Pool):
    one = new_id()
    await insert(
        pool, "outbox", conversation_id=one, seq=1, shard=1, topic="t", value=b"", event_id=one, created_at=ago(900)
    )
    await prune(pool, BY_TABLE["outbox"])
    assert await count(pool, "outbox") == 1


@pytest.mark.parametrize(
    ("table", "rows", "left"),
    [
        (
            "outbox_floors",
            [(shard, again, position) for shard in (0, 15) for again in (True, False) for position in (3, 7, 5)],
            [(0, False, 7), (0, True, 7), (15, False, 7), (15, True, 7)],
        ),
        (
            "log_ends",
            [(0, "a/0", 9), *((1, place, end) for place in ("a/0", "b/0", "b/1") for end in (1, 30, 20, 4))],
            [(0, "a/0", 9), (1, "a/0", 30), (1, "b/0", 30), (1, "b/1", 30)],
        ),
    ],
)
async def test_of_floors_and_ends_the_highest_stay(pool: Pool, table: str, rows: list[Any], left: list[Any]):
    async with pool.connection() as conn, conn.cursor() as cursor:
        for row in rows:
            await cursor.execute(sql.SQL("INSERT INTO {} VALUES (%s, %s, %s)").format(sql.Identifier(table)), row)
        await prune(pool, BY_TABLE[table], 2)
        await cursor.execute(sql.SQL("SELECT * FROM {} ORDER BY 1, 2, 3").format(sql.Identifier(table)))
        assert await cursor.fetchall() == left


def body_of(conn: psycopg.Connection[Any], statement: str) -> str:
    """Return the statement; of one that calls a function of ours, what that executes."""
    called = re.search(r"FROM (millrace_\w+)", statement)
    if called is None:
        return statement
    [(body,)] = conn.execute("SELECT pg_get_function_sqlbody(%s::regproc)", (called[1],)).fetchall()
    arguments = {"kept": "interval '1 day'", "after": "NULL::timestamptz", "most": "10::bigint"}
    text = str(body).removeprefix("BEGIN ATOMIC").removesuffix("END").strip().rstrip(";")
    for name, value in arguments.items():
        text = re.sub(rf"\b{called[1]}\.{name}\b|(?<![.\w]){name}\b", value, text)
    return text


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.table)
def test_each_statement_finds_its_rows_by_an_index(pg_dsn: str, rule: Rule):
    ages = dict.fromkeys(rule.ages, DAY_S)
    with psycopg.connect(pg_dsn, cursor_factory=psycopg.ClientCursor) as conn:
        conn.execute(STATEMENTS["bounds"])
        statement = body_of(conn, STATEMENTS[rule.table])
        explained = conn.execute("EXPLAIN " + statement, {**ages, "after": None, "limit": 10}).fetchall()
    plan = [line for (line,) in explained if re.search(rf"Scan.* on {rule.table}\b", line)]
    assert plan and all("Seq Scan" not in line for line in plan), explained


def tables(dsn: str) -> set[str]:
    with psycopg.connect(dsn) as conn:
        found = conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return {name for (name,) in found if not NOT_OURS.search(name)}


def test_each_table_has_a_rule_or_a_bound(pg_dsn: str):
    assert BY_TABLE.keys() & BOUNDS.keys() == set()
    assert tables(pg_dsn) == {*BY_TABLE, *BOUNDS}
    assert STATEMENTS.keys() - {"bounds"} == BY_TABLE.keys()


def test_the_page_for_operators_says_of_each_table_what_bounds_it():
    text = PAGE.read_text()
    section = (
        text[text.index("## What grows, and what bounds it") :].partition("\n## ")[0] if "## What grows" in text else ""
    )
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert {name for line in rows for name in re.findall(r"`(\w+)`", line.split("|")[1])} == {*BY_TABLE, *BOUNDS}
    for rule in RULES:
        [line] = [line for line in rows if f"`{rule.table}`" in line.split("|")[1]]
        for age in rule.ages:
            assert f"MILLRACE_RETENTION__{age.removesuffix('_s').upper()}_" in line, line
