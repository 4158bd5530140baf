"""What a server's first answer means, and that nobody is held up by a server without one."""

from __future__ import annotations

import asyncio

import pytest

from adapters.postgres.ping import Answer, ping
from stack.ports import allot


def error(sqlstate: str) -> bytes:
    fields = f"SFATAL\0VFATAL\0C{sqlstate}\0Mthe database system is shutting down\0\0".encode()
    return b"E" + (len(fields) + 4).to_bytes(4, "big") + fields


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (error("57P03"), Answer.REFUSES),
        (error("53300"), Answer.ACCEPTS),  # too many connections: it will take others
        (error("28000"), Answer.ACCEPTS),  # it wants TLS
        (b"R\0\0\0\x08\0\0\0\x05C57P03\0", Answer.ACCEPTS),
        (b"", Answer.NONE),
    ],
)
async def test_the_answer_of_a_server(reply: bytes, answer: Answer):
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int.from_bytes(await reader.readexactly(4), "big")
        requests.append(await reader.readexactly(length - 4))
        writer.write(reply)
        writer.close()

    [port] = allot(["postgres"], {}, {}).values()
    async with await asyncio.start_server(serve, "127.0.0.1", port):
        assert await ping(f"postgresql://alice:secret@127.0.0.1:{port}/chat") is answer
        assert await ping(f"host=127.0.0.1,127.0.0.1 port={port} user=alice dbname=chat") is answer
    assert set(requests) == {b"\0\3\0\0user\0alice\0database\0chat\0\0"}
    assert await ping(f"postgresql://alice@127.0.0.1:{port}/chat") is Answer.NONE


async def test_a_server_that_says_nothing_holds_up_nobody():
    async def hold(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    [port] = allot(["postgres"], {}, {}).values()
    turns = 0
    async with await asyncio.start_server(hold, "127.0.0.1", port):
        asking = asyncio.create_task(ping(f"postgresql://alice@127.0.0.1:{port}/chat", within_s=0.3))
        while not asking.done():
            await asyncio.sleep(0.01)
            turns += 1
    assert await asking is Answer.NONE
    assert turns > 3
