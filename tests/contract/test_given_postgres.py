"""PostgreSQL as companies run it: every form of a connection string, used whole, over TLS that is verified."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
import pytest_asyncio
import structlog
from psycopg.conninfo import make_conninfo

from adapters.postgres.conninfo import place
from adapters.postgres.outbox import announce, announcements
from adapters.postgres.ping import Answer, Server
from adapters.postgres.pool import connection, open_pool, open_session
from adapters.postgres.replication import is_streaming
from adapters.postgres.retention import PostgresPruning
from adapters.postgres.roles import Login
from adapters.postgres.search import PostgresSearch
from adapters.postgres.snapshot import SnapshotReader
from adapters.postgres.tickets import PostgresTickets
from domain.errors import Unavailable
from domain.identity import Identity
from domain.retention import BY_DEFAULT, rules_of
from schemas.ids import new_id
from stack.errors import OperatorError
from stack.setup import prepare_database, set_logins
from tests.certificates import Authority
from tests.folders import open_folder
from tests.given import TlsPostgres, rows, tls_postgres

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

_TLS = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE backend_type = 'client backend'"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def given() -> AsyncIterator[TlsPostgres]:
    with open_folder("tls") as path:
        async with tls_postgres(path) as server:
            yield server


def uri(given: TlsPostgres, host: str, port: str | int, database: str, **more: str) -> str:
    about = {"sslmode": "verify-full", "sslrootcert": str(given.authority.file), **more}
    query = "&".join(f"{name}={quote(value)}" for name, value in about.items())
    return f"postgresql://millrace:{given.password}@{host}:{port}/{database}?{query}"


def of_service(given: TlsPostgres, patch: pytest.MonkeyPatch) -> str:
    file = given.folder / "services.conf"
    lines = ["[chat]", *given.dsn("of_service").replace("'", "").split(" ")]
    file.write_text("\n".join([*lines, ""]))
    patch.setenv("PGSERVICEFILE", str(file))
    return "service=chat"


FORMS = {
    "key_value": lambda given, _: given.dsn("key_value"),
    "uri": lambda given, _: uri(given, "127.0.0.1", given.port, "uri"),
    "ipv6": lambda given, _: uri(given, "[::1]", given.port, "ipv6"),
    "hosts": lambda given, _: uri(
        given, "127.0.0.1", f"1,127.0.0.1:{given.port}", "hosts", target_session_attrs="read-write"
    ),
    "socket": lambda given, _: f"postgresql://millrace:{given.password}@/socket?host={given.socket}&port={given.port}",
    "service": of_service,
    "options": lambda given, _: given.dsn("options", options="-c search_path=chat,extensions"),
}


@pytest.mark.parametrize("form", FORMS)
async def test_a_connection_string_is_used_whole(form: str, given: TlsPostgres, monkeypatch: pytest.MonkeyPatch):
    """By all that connects: migrations, pools, sessions, LISTEN, the snapshot. The server refuses what is not TLS."""
    if form == "options":
        await rows(given.dsn("postgres"), "CREATE DATABASE options")
        await rows(
            given.dsn("options"),
            "CREATE SCHEMA chat; CREATE SCHEMA extensions; CREATE EXTENSION pg_trgm SCHEMA extensions",
        )
    dsn = FORMS[form](given, monkeypatch)
    assert await prepare_database(dsn) is None
    assert await prepare_database(dsn) is None
    async with open_pool(dsn, size=2) as pool, open_session(dsn) as session:
        heard = announcements(dsn)
        await anext(heard)
        await announce(pool)
        async with asyncio.timeout(10):
            await anext(heard)
        assert (await SnapshotReader(pool, [new_id()]).snapshot()).heads == {}
        async with connection(pool) as conn:
            [(timeout, tls, schema)] = await (
                await conn.execute(f"SELECT current_setting('statement_timeout'), ({_TLS}), current_schema()")
            ).fetchall()
        assert (timeout, tls, schema) == ("5s", form != "socket", "chat" if form == "options" else "public")
        assert await Server.of(session).ping() is Answer.ACCEPTS
        assert not await is_streaming(dsn)
    assert "no pg_hba.conf entry" not in given.log
    if form == "options":
        found = await rows(
            dsn,
            "SELECT nspname, count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
            " WHERE relkind = 'r' AND nspname IN ('chat', 'public') GROUP BY 1",
        )
        assert [schema for schema, _ in found] == ["chat"]


async def test_roles_work_in_a_schema_of_ones_own(given: TlsPostgres):
    """Rights are those on the tables there, a function finds its table, and the extension may be used."""
    for database, statement in (
        ("postgres", "CREATE DATABASE own"),
        ("own", "CREATE SCHEMA chat"),
        ("own", "CREATE SCHEMA extensions"),
        ("own", "CREATE EXTENSION pg_trgm SCHEMA extensions"),
        ("own", "ALTER DATABASE own SET search_path = chat, extensions"),
    ):
        await rows(given.dsn(database), statement)
    dsn = given.dsn("own")
    assert await prepare_database(dsn) is None
    await set_logins(dsn, {f"own_{role}_1": Login(role, "pw") for role in ("ingest", "gateway", "audit")})

    def login(role: str) -> str:
        return make_conninfo(dsn, user=f"own_{role}_1", password="pw")

    now = float(int(time.time()))
    alice = Identity("alice", now + 600, new_id(), now)
    async with open_pool(login("ingest"), size=1) as ingest, open_pool(login("gateway"), size=1) as gateway:
        ticket = await PostgresTickets(ingest).issue(alice, None)
        assert await PostgresTickets(gateway).redeem(ticket.text, None) == alice
        assert await PostgresSearch(ingest).similar(["word"]) == {}
        with pytest.raises(Unavailable, match="denies this login a right"):
            await PostgresTickets(gateway).issue(alice, None)
    async with open_pool(login("audit"), size=1) as audit:
        for rule in rules_of("audit", BY_DEFAULT):
            assert (await PostgresPruning(audit, BY_DEFAULT).prune(rule, None, 10)).rows == 0


async def test_a_place_holds_no_password_and_names_every_server(given: TlsPostgres):
    shown = place(uri(given, "[::1]", f"1,127.0.0.1:{given.port}", "chat"))
    assert shown == f"[::1]:1,127.0.0.1:{given.port}/chat"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"password": "not-this-s3cret"}, "password authentication failed"),
        ({"sslrootcert": "STRANGER"}, "certificate verify failed"),
        ({"host": "localhost"}, 'does not match host name "localhost"'),
        ({"sslmode": "disable", "sslrootcert": ""}, "no encryption"),
        ({"user": "nobody_known"}, "password authentication failed"),
    ],
)
async def test_a_wrong_login_or_certificate_is_one_line_with_the_words_of_the_driver(
    change: dict[str, str], words: str, given: TlsPostgres, tmp_path: Path
):
    if change.get("sslrootcert") == "STRANGER":
        change = {"sslrootcert": str(Authority(tmp_path, "stranger").file)}
    dsn = given.dsn("key_value", **change)
    with pytest.raises(OperatorError) as setting_up:
        await prepare_database(dsn)
    with structlog.testing.capture_logs() as logged, pytest.raises(Unavailable) as opening:
        async with open_pool(dsn, wait_s=0.3):
            pass
    assert words in opening.value.driver
    for line in (str(setting_up.value), opening.value.driver, *(entry["driver"] for entry in logged)):
        assert words in line and "\n" not in line
        assert "s3cret" not in line and given.password not in line
    assert {entry["event"] for entry in logged} <= {"store_awaited"}


async def test_a_server_with_tls_that_is_told_to_end_loses_all_our_sessions():
    with open_folder("tls-end") as path:
        async with tls_postgres(path) as server:
            dsn = server.dsn("postgres")
            async with open_pool(dsn, size=2) as pool, open_session(dsn):
                async with connection(pool) as conn:
                    await conn.execute("SELECT 1")
                server.process.terminate()  # "smart" shutdown: it waits for its sessions
                async with asyncio.timeout(12):
                    await server.process.wait()
