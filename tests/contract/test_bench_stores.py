"""Tables of the benchmarks in PostgreSQL: a database of many messages, and those of the fair peer."""

from __future__ import annotations

from urllib.parse import urlsplit

from adapters.postgres.audit import PostgresAudit
from adapters.postgres.conversations import PostgresConversations
from adapters.postgres.history import PostgresHistory
from adapters.postgres.messages import PostgresMessages
from adapters.postgres.migrate import ensure_database
from adapters.postgres.pool import connection, open_pool
from bench.clients import SENDER, create_at_peer
from bench.grown import LARGE, SMALL, TABLES, grown
from bench.growth import OPERATIONS
from bench.process import HERE
from domain.audit import Found, Span
from schemas.ids import new_id
from stack.running import RunningStack

SIZE = 10_000


async def test_a_grown_database_is_one_that_the_product_could_have_written(stack: RunningStack):
    async with grown(stack.pg_dsn, SIZE) as database:
        facts = await PostgresAudit(database.pool).facts([Span(SMALL, 1)])
        assert len(facts.rows) == facts.changes == 70
        assert {(row.change, row.document, row.ahead, row.behind) for row in facts.rows} == {
            (True, Found.THERE, False, False)
        }
        assert (list(facts.holes), list(facts.stray_changes), list(facts.watermarks)) == ([], [], [])
        assert all(tally.stored == tally.counted for tally in facts.tallies)
        assert len(await PostgresMessages(database.pool).page(LARGE, None, None, 50, 0)) == 50
        entries = await PostgresHistory(database.pool).changes(LARGE, database.head - 200, database.head, 200)
        assert [entry.seq for entry in entries] == list(range(database.head - 199, database.head + 1))
        conversations = PostgresConversations(database.pool)
        assert len(await conversations.mine("many", None, 3000)) == 2000
        assert (await conversations.unread("many")).messages == 0


async def test_every_call_of_growth_works_and_can_be_repeated(stack: RunningStack):
    async with grown(stack.pg_dsn, SIZE + 1000) as database:
        for operation in OPERATIONS.values():
            assert await database.median_ms(operation.of(database), 3) > 0
        for _ in range(2):
            assert 0 < (await database.wal_bytes())["stored"] < (await database.wal_bytes())["whole"]
        await database.vacuum()
        assert (await database.disk_bytes()).keys() == set(TABLES)


async def test_the_fair_peer_gives_members_dense_seqs_and_a_repeat_the_first_answer(stack: RunningStack):
    dsn = urlsplit(stack.pg_dsn)._replace(path="/bench_peers").geturl()
    ensure_database(dsn)
    async with open_pool(dsn, size=1, wait_s=30) as pool:
        async with connection(pool) as conn:
            await conn.execute((HERE / "peers" / "schema.sql").read_bytes(), prepare=False)
        room, first = new_id(), new_id()
        await create_at_peer(pool, room, ["u1"])

        async def accept(id_: str, user: str, key: str) -> tuple[str | None, int | None, bool | None]:
            async with connection(pool) as conn:
                call = "SELECT stored::text, place, replayed FROM bench_peers.accept(%s, %s, %s, %s, %s)"
                row = await (await conn.execute(call, (id_, room, user, "hello", key))).fetchone()
            assert row is not None
            return row[0], row[1], row[2]

        assert await accept(first, SENDER, "a") == (first, 1, False)
        assert await accept(new_id(), SENDER, "a") == (first, 1, True)
        assert (await accept(new_id(), "u1", "a"))[1:] == (2, False)
        assert await accept(new_id(), "stranger", "b") == (None, None, None)
        async with connection(pool) as conn:
            owed = await (await conn.execute("SELECT seq FROM bench_peers.outbox ORDER BY seq")).fetchall()
        assert owed == [(1,), (2,)]
