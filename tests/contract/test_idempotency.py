"""Idempotency keys: the twin and PostgreSQL keep the same promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest

from adapters.memory.idempotency import MemoryIdempotencyKeys
from adapters.postgres.idempotency import PostgresIdempotencyKeys
from adapters.postgres.pool import open_pool
from domain.errors import IdempotencyMismatch
from domain.idempotency import KEPT_S, IdempotencyKeys
from schemas.ids import new_id

ONE, OTHER = b"1" * 32, b"2" * 32


@pytest.fixture(params=["memory", "postgres"])
async def keys(request: pytest.FixtureRequest) -> AsyncIterator[IdempotencyKeys]:
    if request.param == "memory":
        yield MemoryIdempotencyKeys()
        return
    async with open_pool(request.getfixturevalue("pg_dsn"), size=4) as pool:
        yield PostgresIdempotencyKeys(pool)


async def test_the_same_request_finds_its_answer_and_another_is_told_so(keys: IdempotencyKeys):
    user, key = new_id(), new_id()
    assert await keys.find(user, key, ONE) is None
    await keys.keep(user, key, ONE, 202)
    assert await keys.find(user, key, ONE) == 202
    with pytest.raises(IdempotencyMismatch, match="another request"):
        await keys.find(user, key, OTHER)
    assert await keys.find(new_id(), key, OTHER) is None, "a key is the user's own"
    assert await keys.find(user, new_id(), OTHER) is None


async def test_of_two_at_the_same_time_the_first_is_kept(keys: IdempotencyKeys):
    user, key = new_id(), new_id()
    await asyncio.gather(*(keys.keep(user, key, ONE, 200 + n) for n in range(8)))
    first = await keys.find(user, key, ONE)
    await keys.keep(user, key, ONE, 299)
    await keys.keep(user, key, OTHER, 299)
    assert await keys.find(user, key, ONE) == first


async def test_a_key_of_any_form_is_kept(keys: IdempotencyKeys):
    user = "auth0|" + "x" * 240
    for key in ("'; --", "%s", "~" * 128, '"\\'):
        await keys.keep(user, key, ONE, 204)
        assert await keys.find(user, key, ONE) == 204


async def test_a_key_ends_after_two_days_and_may_be_used_anew(pg_dsn: str):
    now, user, keys = [0.0], new_id(), [new_id() for _ in range(3)]
    twin = MemoryIdempotencyKeys(lambda: now[0])
    async with open_pool(pg_dsn, size=2) as pool:
        store = PostgresIdempotencyKeys(pool)
        for each in (twin, store):
            for key in keys:
                await each.keep(user, key, ONE, 204)
        now[0] = KEPT_S
        with psycopg.connect(pg_dsn, autocommit=True) as conn:
            moved = "UPDATE idempotency_keys SET ends = ends - make_interval(secs => %s) WHERE user_id = %s"
            conn.execute(moved, (KEPT_S, user))
            for each in (twin, store):
                assert await each.find(user, keys[0], OTHER) is None
                await each.keep(user, keys[0], OTHER, 202)
                assert await each.find(user, keys[0], OTHER) == 202
    assert [key for _, key in twin.rows] == [keys[0]]
