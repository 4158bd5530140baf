"""The pool: a server may come late, and may go and come back."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from urllib.parse import urlsplit

import psycopg.conninfo
import pytest

from adapters.postgres.pool import connection, open_pool, transaction
from domain.errors import Unavailable
from verify.fault_proxy import FaultProxy, open_proxy


def through(dsn: str, proxy: FaultProxy) -> str:
    return psycopg.conninfo.make_conninfo(dsn, host="127.0.0.1", port=proxy.port)


def port_of(dsn: str) -> int:
    return urlsplit(dsn).port or int(psycopg.conninfo.conninfo_to_dict(dsn)["port"] or 5432)


async def test_a_pool_waits_for_a_server_that_comes_late(pg_dsn: str):
    async with open_proxy(port_of(pg_dsn)) as proxy:
        proxy.refuse()

        async def come() -> None:
            await asyncio.sleep(4)  # the outage itself
            await proxy.heal()

        coming = asyncio.create_task(come())
        async with open_pool(through(pg_dsn, proxy), size=2, wait_s=30) as pool, connection(pool) as conn:
            await conn.execute("SELECT 1")
        await coming


@pytest.mark.slow
async def test_a_pool_connects_soon_after_a_long_outage(pg_dsn: str):
    async with open_proxy(port_of(pg_dsn)) as proxy, open_pool(through(pg_dsn, proxy), size=4) as pool:
        proxy.refuse()
        proxy.reset()
        until = time.monotonic() + 15
        while time.monotonic() < until:  # the outage itself, in which everybody goes on asking
            with suppress(Unavailable):
                async with connection(pool) as conn:
                    await conn.execute("SELECT 1")
            await asyncio.sleep(0.05)
        await proxy.heal()
        async with asyncio.timeout(4):
            while True:
                with suppress(Unavailable):
                    async with connection(pool) as conn:
                        await conn.execute("SELECT 1")
                        return
                await asyncio.sleep(0.05)


async def test_an_error_names_the_trouble_with_its_sqlstate_and_what_the_driver_says(pg_dsn: str):
    async with (
        open_pool(pg_dsn, size=2, statement_s=0.2, lock_s=0.05) as pool,
        open_pool(pg_dsn, size=1) as other,
        transaction(other) as holder,
    ):
        await holder.execute("LOCK TABLE search_documents IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(Unavailable, match=r"PostgreSQL waits too long for a lock \(55P03\)") as locked:
            async with connection(pool) as conn:
                await conn.execute("SELECT FROM search_documents LIMIT 1")
        assert locked.value.driver == "canceling statement due to lock timeout"
        with pytest.raises(Unavailable, match=r"PostgreSQL takes too long \(57014\)"):
            async with connection(pool) as conn:
                await conn.execute("SELECT pg_sleep(5)")
        with pytest.raises(Unavailable, match=r"schema of another version.*\(42P01\)"):
            async with connection(pool) as conn:
                await conn.execute("SELECT FROM a_table_of_tomorrow")
