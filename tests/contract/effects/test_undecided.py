"""Undecided messages: a claim holds them, and what it does not settle is there for the next one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from adapters.memory.undecided import MemoryUndecided
from adapters.postgres.pool import Pool, open_pool
from adapters.postgres.statements import load
from adapters.postgres.undecided import PostgresUndecided
from domain.notifications import Undecided
from schemas.ids import new_id
from schemas.messages import Message
from tests import make

_SQL = load("undecided")


@pytest.fixture(params=["memory", "postgres"])
async def undecided(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    if request.param == "memory":
        yield MemoryUndecided()
        return
    async with open_pool(request.getfixturevalue("pg_dsn")) as pool:
        async with pool.connection() as conn:
            await conn.execute("DELETE FROM notifications_due")
        yield PostgresUndecided(pool)


def messages(count: int, room: str = "") -> list[Message]:
    return [make.message(conversation_id=room or new_id()) for _ in range(count)]


def ids(some: list[Message]) -> list[str]:
    return [message.message_id for message in some]


async def now(undecided: Undecided) -> datetime:
    return (await undecided.due()).at


async def test_a_message_is_due_after_its_time_and_keeps_the_first(undecided):
    [one, two] = messages(2)
    assert (await undecided.due()).first is None
    await undecided.defer([one], 60.0)
    found = await undecided.due()
    assert timedelta(seconds=59) < found.first - found.at <= timedelta(seconds=60)
    await undecided.defer([one, two], 0.0)
    async with undecided.claim(await now(undecided), 10) as claim:
        assert claim.message_ids == ids([two])
    async with undecided.claim(await now(undecided) + timedelta(seconds=61), 10) as claim:
        assert claim.message_ids == ids([two, one])


async def test_what_is_settled_is_gone_and_the_rest_stays(undecided):
    some = messages(3)
    await undecided.defer(some, 0.0)
    until = await now(undecided)
    async with undecided.claim(until, 10) as claim:
        assert sorted(claim.message_ids) == sorted(ids(some))
        await claim.settle(ids(some[:1]))
        await claim.postpone(ids(some[1:2]), 60.0)
    async with undecided.claim(until, 10) as claim:
        assert claim.message_ids == ids(some[2:])
        await claim.settle(ids(some[2:]))
    found = await undecided.due()
    assert timedelta(seconds=50) < found.first - found.at <= timedelta(seconds=60)


async def test_a_claim_that_fails_settles_nothing(undecided):
    some = messages(2)
    await undecided.defer(some, 0.0)
    until = await now(undecided)
    with pytest.raises(ZeroDivisionError):
        async with undecided.claim(until, 10) as claim:
            await claim.settle(ids(some))
            raise ZeroDivisionError
    async with undecided.claim(until, 10) as claim:
        assert sorted(claim.message_ids) == sorted(ids(some))


async def test_two_claims_never_hold_the_same_message_nor_the_same_conversation(undecided):
    room = new_id()
    mine, others = messages(3, room), messages(2)
    await undecided.defer(mine[:2], 0.0)
    until = await now(undecided)
    async with undecided.claim(until, 1) as first:
        assert len(first.message_ids) == 1
        await undecided.defer([*others, mine[2]], 0.0)
        async with undecided.claim(await now(undecided), 10) as second:
            assert sorted(second.message_ids) == sorted(ids(others))
    async with undecided.claim(await now(undecided), 10) as third:
        assert sorted(third.message_ids) == sorted(ids([*mine, *others]))


async def test_a_claim_takes_the_oldest_first_and_no_more_than_its_limit(undecided):
    some = messages(5)
    for message in some:
        await undecided.defer([message], 0.0)
    async with undecided.claim(await now(undecided), 3) as claim:
        assert claim.message_ids == ids(some[:3])


async def test_what_a_dead_session_held_is_free_at_once(pg_dsn: str, pool: Pool):
    undecided, some = PostgresUndecided(pool), messages(2)
    async with pool.connection() as conn:
        await conn.execute("DELETE FROM notifications_due")
    await undecided.defer(some, 0.0)
    until = await now(undecided)
    async with open_pool(pg_dsn, size=1) as dying:
        claim = PostgresUndecided(dying).claim(until, 10)
        held = await claim.__aenter__()
        async with undecided.claim(until, 10) as nothing:
            assert nothing.message_ids == []
        async with pool.connection() as conn:
            await conn.execute("SELECT pg_terminate_backend(%s)", (held.conn.info.backend_pid,))
        async with undecided.claim(until, 10) as found:
            assert sorted(found.message_ids) == sorted(ids(some))
        with pytest.raises(Exception, match="PostgreSQL"):
            await claim.__aexit__(None, None, None)


async def test_what_was_due_by_a_time_can_be_left_out(undecided):
    [early, late] = messages(2)
    await undecided.defer([early], 0.0)
    between = await now(undecided)
    await undecided.defer([late], 0.0)
    until = await now(undecided)
    assert (await undecided.due(between)).first > between
    assert (await undecided.due(until)).first is None
    async with undecided.claim(until, 10, between) as claim:
        assert claim.message_ids == ids([late])


@pytest.mark.parametrize("is_dead", [False, True])
async def test_a_claim_reads_what_it_returns_however_many_rows_wait_or_are_deleted(pool: Pool, is_dead: bool):
    """Deleted rows stay in the index while a session keeps an old snapshot, as a dump does."""
    undecided = PostgresUndecided(pool)
    async with pool.connection() as conn, pool.connection() as dump:
        await conn.execute("DELETE FROM notifications_due")
        await conn.execute(
            """INSERT INTO notifications_due (message_id, conversation_id, due_at)
            SELECT gen_random_uuid(), gen_random_uuid(), now() + n * interval '1 ms' - interval '100 s'
            FROM generate_series(1, 60000) AS n"""
        )
        await conn.execute("ANALYZE notifications_due")
        async with dump.transaction():
            await dump.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            await dump.execute("SELECT 1")
            if is_dead:
                await conn.execute("DELETE FROM notifications_due")
            await undecided.defer(messages(3), 0.0)
            until = await now(undecided)
            after = until - timedelta(seconds=20 if is_dead else 1000)
            columns = {"after": after, "until": until, "limit": 200, "space": 1}
            plan = await conn.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + _SQL["claim"], columns)
            [[[claim]]] = await plan.fetchall()
            plan = await conn.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + _SQL["due"], columns)
            [[[due]]] = await plan.fetchall()
        await conn.execute("DELETE FROM notifications_due")
    for found in (claim, due):
        assert "notifications_due_by_time" in str(found)
        assert found["Plan"]["Shared Hit Blocks"] + found["Plan"]["Shared Read Blocks"] < 1000
