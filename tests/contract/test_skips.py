"""Records that readers step over: the twin and PostgreSQL keep the same promises."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from adapters.kafka.consumer import Received
from adapters.memory.skips import MemorySkips
from adapters.postgres.pool import open_pool
from adapters.postgres.skips import PostgresSkips
from domain.skips import Skips, digest
from schemas.ids import new_id


@pytest.fixture(params=["memory", "postgres"])
async def skips(request: pytest.FixtureRequest) -> AsyncIterator[Skips]:
    if request.param == "memory":
        yield MemorySkips()
        return
    async with open_pool(request.getfixturevalue("pg_dsn"), size=1) as pool:
        yield PostgresSkips(pool)


async def test_each_reader_has_its_own_and_the_newest_record_of_a_place_counts(skips):
    reader, other = f"r-{new_id()}", f"r-{new_id()}"
    record = Received("message.created", 3, 7, b"key", None, ())
    newer = replace(record, value=b"another")
    assert await skips.of(reader) == {}
    await skips.add(reader, record)
    assert await skips.of(reader) == {("message.created", 3, 7): digest(record)}
    await skips.add(reader, newer)
    await skips.add(reader, replace(record, offset=8))
    assert await skips.of(reader) == {
        ("message.created", 3, 7): digest(newer),
        ("message.created", 3, 8): digest(record),
    }
    assert await skips.of(other) == {}
