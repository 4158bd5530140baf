"""Servers given by URL are reached however they are named: by IPv6, by a socket, by the second of two."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from stack.errors import OperatorError
from stack.given import DIRECT, GIVEN, find_given
from stack.probes import answers


@pytest.fixture
async def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """A port on ::1 where something listens, as it does on the sockets of a PostgreSQL and a Redis."""
    for variable in (*GIVEN.values(), DIRECT):
        monkeypatch.delenv(variable, raising=False)

    def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with AsyncExitStack() as stack:
        for path in (tmp_path / ".s.PGSQL.5432", tmp_path / "redis.sock"):
            await stack.enter_async_context(await asyncio.start_unix_server(serve, path))
        server = await stack.enter_async_context(await asyncio.start_server(serve, "::1", 0))
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("name", "url", "place"),
    [
        ("pg", "postgresql://u@[::1]:{port}/x", "[::1]:{port}"),
        ("pg", "postgresql://u@[::1]:1,[::1]:{port}/x", "[::1]:{port}"),
        ("pg", "postgresql://u@/x?host={folder}", "{folder}/.s.PGSQL.5432"),
        ("redis", "rediss+cluster://u:p@[::1]:{port},one:2", "[::1]:{port}"),
        ("redis", "unix://u:p@{folder}/redis.sock", "{folder}/redis.sock"),
        ("redis", "redis+sentinel://[::1]:{port}/chat", "[::1]:{port}"),
        ("kafka", "[::1]:1,[::1]:{port}", "[::1]:{port}"),
    ],
)
async def test_a_server_is_reached(
    name: str, url: str, place: str, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(GIVEN[name], url.format(port=port, folder=tmp_path))
    [found] = await find_given()
    assert found.place == place.format(port=port, folder=tmp_path)
    assert await answers(found.port, host=found.host)


async def test_all_servers_that_do_not_answer_are_named(port: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(GIVEN["pg"], "postgresql://u:s3cret@[::1]:1,127.0.0.1:2/x")
    with pytest.raises(OperatorError, match=r"no PostgreSQL answers at \[::1\]:1, 127.0.0.1:2") as refused:
        await find_given()
    assert "s3cret" not in str(refused.value)
