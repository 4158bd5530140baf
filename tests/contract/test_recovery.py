"""Parked conversations and epochs of the log: the twin and PostgreSQL keep the same promises."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from adapters.memory.parking import MemoryParking
from adapters.postgres.epochs import PostgresEpochs
from adapters.postgres.outbox import open_outbox
from adapters.postgres.parking import PostgresParking
from adapters.postgres.pool import Pool, open_pool
from domain.log_position import Position
from domain.parking import Closed, Outcome, Parked, Parking, SetAside
from schemas.ids import new_id


@pytest.fixture(params=["memory", "postgres"])
async def parking(request: pytest.FixtureRequest) -> AsyncIterator[Parking]:
    if request.param == "memory":
        yield MemoryParking()
        return
    async with open_pool(request.getfixturevalue("pg_dsn"), size=2) as pool:
        yield PostgresParking(pool, "analytics")


async def test_what_is_set_aside_is_counted_and_only_who_saw_all_of_it_ends_the_parking(parking):
    one, two = new_id(), new_id()
    assert await parking.parked([one, two]) == {}
    await parking.park([SetAside(one, "KeyError", 1, 3), SetAside(two, "parked", 0, 1)])
    await parking.park([SetAside(one, "parked", 0, 2)])
    assert await parking.parked([one, two]) == {one: Parked(1, 5), two: Parked(0, 1)}
    assert not await parking.unpark(one, 4)
    assert await parking.unpark(one, 5)
    assert not await parking.unpark(one, 5)
    assert await parking.parked([one, two]) == {two: Parked(0, 1)}


async def test_closed_letters_keep_their_first_end_and_their_reason(parking):
    room, (handled, given_up) = new_id(), (new_id(), new_id())
    await parking.park([SetAside(room, "KeyError", 1, 1)])
    assert (await parking.all())[room] == Parked(1, 1)
    discarded = Closed(Outcome.DISCARDED, "forged")
    await parking.close([handled], Closed(Outcome.HANDLED))
    await parking.close([given_up, handled], discarded)
    await parking.close([], discarded)
    closed = await parking.closed()
    assert {id_: closed[id_] for id_ in (handled, given_up)} == {handled: Closed(Outcome.HANDLED), given_up: discarded}


async def test_stages_park_apart_and_close_their_own_letters(pool: Pool):
    analytics, other = PostgresParking(pool, "analytics"), PostgresParking(pool, "search")
    room, letter = new_id(), new_id()
    await analytics.park([SetAside(room, "KeyError", 1, 1)])
    await analytics.close([letter], Closed(Outcome.HANDLED))
    assert await other.parked([room]) == {}
    assert letter in await analytics.closed()
    assert letter not in await other.closed()


async def test_a_loss_begins_an_epoch_and_positions_keep_theirs(pool: Pool, pg_dsn: str):
    status, search = PostgresEpochs(pool, "status"), PostgresEpochs(pool, "search")
    assert await status.current() == 0
    await status.reached(["a/0", "a/1"], 0)
    async with open_outbox(pg_dsn) as outbox:
        await outbox.compare(Position(cluster_id="one", replication=1, ends={}))
        await outbox.compare(Position(cluster_id="two", replication=1, ends={}))
    assert await status.current() == 1
    await status.reached(["a/1"], 1)
    await status.reached(["a/1"], 0)
    assert await status.of(["a/0", "a/1", "a/2"]) == {"a/0": 0, "a/1": 1}
    assert await search.of(["a/0"]) == {}
