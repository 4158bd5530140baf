"""The pool: a server may come late, and may go and come back."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, suppress
from urllib.parse import urlsplit

import psycopg
import psycopg.conninfo
import pytest

from adapters.postgres.errors import unavailable_on_outage
from adapters.postgres.outbox import announcements
from adapters.postgres.pool import Pool, connection, open_pool, open_session, transaction
from domain.errors import Unavailable
from stack.child import Child, spawn
from stack.ports import allot
from stack.servers.data_dir import DataDir
from stack.servers.postgres import Postgres
from tests.folders import open_folder
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


async def test_nobody_gets_a_session_that_the_server_has_ended(pg_dsn: str):
    async with open_pool(pg_dsn, size=4) as pool, AsyncExitStack() as all_of_them:
        conns = [await all_of_them.enter_async_context(connection(pool)) for _ in range(4)]
        ended = [conn.info.backend_pid for conn in conns]
        await all_of_them.aclose()
        async with await psycopg.AsyncConnection.connect(pg_dsn, autocommit=True) as other, asyncio.timeout(10):
            await other.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS pid", (ended,))
            living = "SELECT 1 FROM pg_stat_activity WHERE pid = ANY(%s)"
            while await (await other.execute(living, (ended,))).fetchone():
                pass
        for _ in range(8):
            async with connection(pool) as conn:
                await conn.execute("SELECT 1")
                assert conn.info.backend_pid not in ended


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


@pytest.mark.slow
async def test_a_server_that_is_told_to_end_loses_all_our_sessions_and_the_pool_comes_back():
    with open_folder("sessions") as path:
        folder = DataDir(path)
        folder.prepare()
        [port] = allot(["postgres"], {}, {}).values()
        server = Postgres(folder, port)
        dsn = psycopg.conninfo.make_conninfo(server.dsn, dbname="postgres")
        child = await server.prepare()
        process = await spawn(child)
        await until_ready(child)
        async with open_pool(dsn, size=4) as pool, open_session(dsn) as session:
            listening = asyncio.create_task(listen(dsn))
            await asyncio.gather(*(works(pool) for _ in range(4)))  # all of the pool are open
            while await session_count(dsn) < 6:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            process.terminate()  # "smart" shutdown
            async with asyncio.timeout(12):
                await process.wait()
            with pytest.raises(Unavailable, match="PostgreSQL"):
                await listening
            with pytest.raises(Unavailable), unavailable_on_outage():
                await session.execute("SELECT 1")
            again = await spawn(child)
            await until_ready(child)
            async with asyncio.timeout(4):
                while not await works(pool):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        again.send_signal(child.stop_signal)
        await again.wait()


async def until_ready(child: Child) -> None:
    async with asyncio.timeout(30):
        while not await child.ready():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def listen(dsn: str) -> None:
    async for _ in announcements(dsn):
        pass


async def works(pool: Pool) -> bool:
    with suppress(Unavailable):
        async with connection(pool) as conn:
            await conn.execute("SELECT pg_sleep(0.1)")
            return True
    return False


async def session_count(dsn: str) -> int:
    """Sessions of clients besides this one."""
    async with await psycopg.AsyncConnection.connect(dsn) as conn:
        found = await conn.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        row = await found.fetchone()
    return int(row[0]) if row else 0
