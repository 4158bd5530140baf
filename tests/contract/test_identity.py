"""Revocations and tickets: the twins and PostgreSQL keep the same promises."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import psycopg
import pytest

from adapters.memory.identity import MemoryRevocations, MemoryTickets
from adapters.postgres.pool import Pool, open_pool
from adapters.postgres.revocations import PostgresRevocations
from adapters.postgres.tickets import PostgresTickets
from domain.identity import Identity
from domain.revocations import Revocations, RevokedTokens
from domain.tickets import MOST, TTL_S, Tickets
from schemas.ids import new_id

PAGE = "https://chat.example"


def identity(user: str = "", ttl_s: float = 600) -> Identity:
    now = time.time()
    return Identity(user or new_id(), now + ttl_s, new_id(), float(int(now)))


@pytest.fixture(params=["memory", "postgres"])
async def revocations(request: pytest.FixtureRequest) -> AsyncIterator[Revocations]:
    if request.param == "memory":
        yield MemoryRevocations()
        return
    async with open_pool(request.getfixturevalue("pg_dsn"), size=2) as pool:
        yield PostgresRevocations(pool)


async def test_a_user_has_few_tickets_and_the_newest_hold(tickets):
    alice, bob = identity(), identity()
    other = await tickets.issue(bob, None)
    issued = [await tickets.issue(alice, None) for _ in range(MOST + 5)]
    found = [await tickets.redeem(ticket.text, None) for ticket in issued]
    assert found == [None] * 5 + [alice] * MOST
    assert await tickets.redeem(other.text, None) == bob


@pytest.fixture(params=["memory", "postgres"])
async def tickets(request: pytest.FixtureRequest) -> AsyncIterator[Tickets]:
    if request.param == "memory":
        yield MemoryTickets()
        return
    async with open_pool(request.getfixturevalue("pg_dsn"), size=10) as pool:
        yield PostgresTickets(pool)


async def test_whoever_looks_is_told_of_each_revocation(revocations):
    _, mark = await revocations.since(None)
    first = await revocations.revoke("alice", None)
    found, later = await revocations.since(mark)
    assert first in found
    second = await revocations.revoke("bob", "a token")
    assert second in (await revocations.since(later))[0]
    everything, _ = await revocations.since(None)
    assert [each for each in everything if each in (first, second)] == [first, second]
    assert first.number != second.number
    assert abs(first.at - time.time()) < 5


async def test_a_revocation_covers_a_token_or_all_until_then(revocations):
    alice, other = identity(), identity()
    again = replace(alice, jti=new_id())
    of_token = await revocations.revoke(alice.user_id, alice.jti)
    assert [of_token.covers(each) for each in (alice, again, replace(other, jti=alice.jti))] == [True, False, False]
    of_user = await revocations.revoke(alice.user_id, None)
    later = replace(alice, issued_at=of_user.at + 1)
    assert [of_user.covers(each) for each in (alice, again, later, other)] == [True, True, False, False]
    held = RevokedTokens()
    assert [held.add(of_token), held.add(of_user), held.add(of_user)] == [True, True, False]
    assert [held.holds(each) for each in (alice, again, later, other)] == [
        True,
        True,
        True,
        False,
    ]  # its jti is alice's


async def test_closed_connections_are_counted(revocations):
    made = await revocations.revoke("alice", None)
    assert await revocations.closed(made.number) == 0
    await revocations.note_closed(made.number, 2)
    await revocations.note_closed(made.number, 1)
    assert await revocations.closed(made.number) == 3


async def test_one_that_is_committed_late_is_found_all_the_same(pool: Pool, pg_dsn: str):
    store = PostgresRevocations(pool)
    async with await psycopg.AsyncConnection.connect(pg_dsn) as late:
        await late.execute("INSERT INTO revocations (user_id, ends) VALUES ('late', now() + interval '1 day')")
        early = await store.revoke("early", None)
        found, mark = await store.since(None)
        assert early in found
        await late.commit()
    assert "late" in {each.user_id for each in (await store.since(mark))[0]}


async def test_what_has_ended_is_told_no_more(pool: Pool):
    store = PostgresRevocations(pool)
    async with pool.connection() as conn:
        await conn.execute("INSERT INTO revocations (user_id, ends) VALUES ('ended', now() - interval '1 s')")
        assert "ended" not in {each.user_id for each in (await store.since(None))[0]}


async def test_a_ticket_stands_for_its_token_once(tickets):
    alice = identity()
    ticket = await tickets.issue(alice, None)
    assert len(ticket.text) == 22
    assert TTL_S - 5 < ticket.expires_at - time.time() < TTL_S + 5
    assert ticket.text not in repr(ticket)
    assert await tickets.redeem(ticket.text, PAGE) == alice
    assert await tickets.redeem(ticket.text, PAGE) is None


async def test_of_many_who_bring_it_at_once_one_is_let_in(tickets):
    ticket = await tickets.issue(identity(), None)
    found = await asyncio.gather(*(tickets.redeem(ticket.text, None) for _ in range(20)))
    assert sum(each is not None for each in found) == 1


async def test_a_ticket_for_pages_of_an_origin_is_used_up_by_any_other(tickets):
    alice = identity()
    assert await tickets.redeem((await tickets.issue(alice, PAGE)).text, PAGE) == alice
    for other in (None, "https://evil.example"):
        ticket = await tickets.issue(alice, PAGE)
        assert await tickets.redeem(ticket.text, other) is None
        assert await tickets.redeem(ticket.text, PAGE) is None


@pytest.mark.parametrize("text", ["", "x", "a" * 22, "a" * 21 + "\0", "' OR ''='", "\u00e9" * 22, "a" * 5000])
async def test_what_is_no_ticket_opens_nothing(tickets, text):
    assert await tickets.redeem(text, None) is None


async def test_a_ticket_ends_with_its_token(tickets):
    ticket = await tickets.issue(identity(ttl_s=-1), None)
    assert await tickets.redeem(ticket.text, None) is None


async def test_a_ticket_ends_after_its_time(pool: Pool):
    tickets = PostgresTickets(pool)
    ticket = await tickets.issue(identity(), None)
    async with pool.connection() as conn:
        await conn.execute("UPDATE tickets SET ends = now() - interval '1 ms'")
    assert await tickets.redeem(ticket.text, None) is None
    clock = iter((1000.0, 1000.0 + TTL_S))
    twin = MemoryTickets(lambda: next(clock))
    made = await twin.issue(replace(identity(), expires_at=5000.0), None)
    assert await twin.redeem(made.text, None) is None


async def test_the_store_holds_no_ticket(pool: Pool):
    tickets = PostgresTickets(pool)
    ticket = await tickets.issue(identity(), None)
    async with pool.connection() as conn:
        rows = await (await conn.execute("SELECT t::text FROM tickets t")).fetchall()
        assert all(ticket.text not in row[0] for row in rows)
