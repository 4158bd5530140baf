"""PgBouncer before PostgreSQL: what works through it, and what is refused with a clear line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import structlog
from psycopg.conninfo import make_conninfo
from psycopg.errors import QueryCanceled

from adapters.postgres.conversations import PostgresConversations
from adapters.postgres.history import PostgresHistory
from adapters.postgres.intake import PostgresIntake
from adapters.postgres.outbox import announcements, open_outbox
from adapters.postgres.pool import connection, open_pool, open_session
from adapters.postgres.search import PostgresSearch
from domain.errors import Invalid
from domain.search import Query
from domain.terms import parse
from schemas.ids import new_id
from stack.errors import OperatorError
from stack.setup import prepare_database
from tests import make
from tests.folders import open_folder
from tests.given import bouncer, rows

pytestmark = pytest.mark.slow

IGNORES = "ignore_startup_parameters = options,extra_float_digits"


@asynccontextmanager
async def through(dsn: str, mode: str, *lines: str) -> AsyncIterator[str]:
    with open_folder("pgbouncer") as path:
        async with bouncer(path, dsn, mode, *lines) as led:
            yield led


@pytest.mark.parametrize(
    "lines", [(), (IGNORES,), (IGNORES, "server_round_robin = 1"), (IGNORES, "pool_mode = statement")]
)
async def test_a_shared_session_is_noticed_and_refused_before_anything_is_done_in_it(
    pg_dsn: str, lines: tuple[str, ...]
):
    async with through(pg_dsn, "transaction", *lines) as led:
        with pytest.raises(Invalid, match=r"PgBouncer.*MILLRACE_PG__DIRECT_DSN"):
            async with open_pool(led):
                pass
        with pytest.raises(Invalid, match="MILLRACE_PG__DIRECT_DSN"):
            async with open_session(led):
                pass
        with pytest.raises(Invalid, match="MILLRACE_PG__DIRECT_DSN"):
            await anext(announcements(led))
        with pytest.raises(OperatorError, match="MILLRACE_PG__DIRECT_DSN"):
            await prepare_database(led)


async def test_options_that_a_pooler_does_not_take_are_named(pg_dsn: str):
    async with through(pg_dsn, "transaction") as led:
        with pytest.raises(Invalid, match="PgBouncer takes no options"):
            async with open_pool(make_conninfo(led, options="-c search_path=public"), is_pooled=True):
                pass


async def test_a_busy_pooler_is_noticed_too(pg_dsn: str):
    """Others use its sessions meanwhile, and take now one and now another."""
    async with through(pg_dsn, "transaction", IGNORES) as led, open_pool(led, size=6, is_pooled=True) as pool:
        is_over = asyncio.Event()

        async def work() -> None:
            while not is_over.is_set():  # to be cancelled is no way to end it: wait_for may swallow that before 3.12
                async with pool.connection() as conn:
                    await conn.execute("SELECT pg_sleep(0.001)")

        async with asyncio.TaskGroup() as group:
            for _ in range(6):
                group.create_task(work())
            try:
                with pytest.raises(Invalid, match="MILLRACE_PG__DIRECT_DSN"):
                    for _ in range(5):
                        async with open_session(led):
                            pass
            finally:
                is_over.set()


async def test_with_session_pooling_everything_works_and_missing_bounds_are_told(pg_dsn: str):
    async with through(pg_dsn, "session", IGNORES) as led:
        with structlog.testing.capture_logs() as logged:
            async with open_pool(led, size=2) as pool, open_outbox(led) as outbox, pool.connection() as conn:
                await outbox.claim()
                assert outbox.shards
                await conn.execute("SELECT 1")
                await anext(announcements(led))
        assert "statements_unbounded" in {entry["event"] for entry in logged}


async def test_bounds_of_the_login_hold_through_the_pooler(pg_dsn: str):
    await rows(pg_dsn, "DROP ROLE IF EXISTS bounded")
    await rows(pg_dsn, "CREATE ROLE bounded LOGIN PASSWORD 'pw'")
    await rows(pg_dsn, "ALTER ROLE bounded SET statement_timeout = '50ms'")
    async with through(pg_dsn, "transaction") as led:
        bounded = make_conninfo(led, user="bounded", password="pw")
        with structlog.testing.capture_logs() as logged:
            async with open_pool(bounded, is_pooled=True) as pool, connection(pool) as conn:
                with pytest.raises(QueryCanceled, match="statement timeout"):
                    await conn.execute("SELECT pg_sleep(5)")
        assert "statements_unbounded" not in {entry["event"] for entry in logged}
    await rows(pg_dsn, "DROP ROLE bounded")


async def test_messages_are_stored_read_and_found_with_fewer_sessions_than_clients(pg_dsn: str):
    async with (
        through(pg_dsn, "transaction", "default_pool_size = 2") as led,
        open_pool(led, size=6, is_pooled=True) as pool,
        open_outbox(pg_dsn) as outbox,
    ):
        intake, room = PostgresIntake(pool), new_id()
        await PostgresConversations(pool).create(room, "room", "alice", ["bob"])
        drafts = [make.draft(f"word{n}", conversationId=room) for n in range(60)]
        await asyncio.gather(*(intake.accept(drafts[n : n + 5], wait=True) for n in range(0, 60, 5)))
        changes = await PostgresHistory(pool).changes(room, 0, 100, 100)
        assert [change.seq for change in changes] == list(range(1, 61))
        await PostgresSearch(pool).refresh([change.message.message_id for change in changes if change.message])
        assert len(await PostgresSearch(pool).search("bob", Query(terms=parse("word7")), limit=5)) == 1
        await outbox.claim()
        assert len(await outbox.unpublished(100)) == 61
