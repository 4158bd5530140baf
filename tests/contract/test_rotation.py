"""Passwords in files, which change while a process runs: each new connection reads them again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from adapters.postgres.pool import connection, open_pool, open_session
from adapters.redis.client import connect, execute
from adapters.redis.publisher import open_fanout
from adapters.redis.registry import open_registry
from adapters.redis.slot_client import open_slot_client
from adapters.redis.subscriptions import open_subscriptions
from adapters.redis.target import target
from domain.errors import Unavailable
from schemas.ids import new_id
from stack.ports import allot
from stack.servers.valkey import _binary
from tests.contract.conftest import entry, listen
from tests.given import redis

FIRST, SECOND = "first w0rd", "sec0nd word"


@pytest.fixture
def login(pg_dsn: str) -> Iterator[str]:
    """A login with the first password, and nothing else; it is gone afterwards."""
    name = f"rotating_{new_id()[-8:]}"
    _alter(pg_dsn, "CREATE ROLE {} LOGIN", name)
    _set_password(pg_dsn, name, FIRST)
    yield name
    _alter(pg_dsn, "DROP ROLE {}", name)


def _alter(dsn: str, statement: str, name: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(sql.SQL(statement).format(sql.Identifier(name)))


def _set_password(dsn: str, name: str, password: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(name), sql.Literal(password)))


def _write(file: Path, text: str) -> None:
    """Put a file in the place of the one that is there, as those who mount secrets do."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.chmod(0o600)
    new.replace(file)


async def test_a_password_of_postgresql_changes_in_the_file_that_passfile_names(
    pg_dsn: str, login: str, tmp_path: Path
):
    file = tmp_path / "pgpass"
    _write(file, f"*:*:*:{login}:{FIRST}\n")
    parts = conninfo_to_dict(pg_dsn)
    dsn = make_conninfo(host=parts["host"], port=parts["port"], dbname=parts["dbname"], user=login, passfile=str(file))
    async with open_pool(dsn, size=2) as pool:
        async with connection(pool) as conn:
            await conn.execute("SELECT 1")
        _set_password(pg_dsn, login, SECOND)
        _write(file, f"*:*:*:{login}:{SECOND}\n")
        await pool.drain()  # as after an outage: all sessions are new
        async with connection(pool) as conn:
            await conn.execute("SELECT 1")
        async with open_session(dsn) as conn:
            await conn.execute("SELECT 1")
        _write(file, f"*:*:*:{login}:{FIRST}\n")
        with pytest.raises(Unavailable) as refused:
            async with open_pool(dsn, wait_s=0.1):
                pass
    assert "password authentication failed" in refused.value.driver
    assert FIRST not in refused.value.driver and SECOND not in refused.value.driver


async def test_a_password_of_redis_changes_in_the_file_that_the_url_names(tmp_path: Path):
    file, [port] = tmp_path / "password", allot(["redis"], {}, {}).values()
    _write(file, f"{FIRST}\n")
    acl = tmp_path / "users"
    acl.write_text("user default off\nuser chat on >first ~* &* +@all\nuser admin on >admin ~* &* +@all\n")
    url = f"redis://chat@127.0.0.1:{port}/0?password_file={file}"
    async with redis(tmp_path, str(_binary()), "rotating", port, f"aclfile {acl}"):
        admin = connect(target(f"redis://admin:admin@127.0.0.1:{port}/0"))
        await execute(admin, "ACL", "SETUSER", "chat", "resetpass", f">{FIRST}")
        async with (
            open_fanout(url) as fanout,
            open_subscriptions(url, "node") as pubsub,
            open_registry(url, node="node", lease_s=30) as registry,
        ):
            node, pumping = await listen(pubsub)
            await pubsub.subscribe("conversation:1:messages")

            async def works() -> None:
                await fanout.publish([("conversation:1:messages", b"one")])
                while (
                    await asyncio.wait_for(node.next(), 5)
                ).data != b"one":  # first the hints that something was missed
                    pass
                await registry.register(one := entry())
                assert await registry.connected([one.user_id]) == {one.user_id}

            await works()
            await execute(admin, "ACL", "SETUSER", "chat", "resetpass", f">{SECOND}")
            _write(file, f"{SECOND}\n")
            await execute(admin, "CLIENT", "KILL", "USER", "chat")
            async with asyncio.timeout(30):
                while True:
                    try:
                        await works()
                        break
                    except (Unavailable, TimeoutError):
                        await asyncio.sleep(0.1)
            pumping.cancel()
        file.unlink()
        async with open_slot_client(url) as client:
            with pytest.raises(Unavailable, match="password_file of the Redis URL must name a file") as refused:
                await client.run([("GET", "key")])
        assert str(file) in refused.value.driver
        await admin.aclose()
