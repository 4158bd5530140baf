"""Writes of one turn of the event loop are sent together, and none is lost or overtaken."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from runtime.http.joined_writes import JoinedWrites
from runtime.http.limits import Connections
from runtime.http.protocol import BoundedProtocol
from tests.flow.http_server import Answer, answers, get


class Recording(asyncio.Transport):
    """A transport that notes what is done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[bytes | str] = []

    def write(self, data: Any) -> None:
        self.done.append(bytes(data))

    def write_eof(self) -> None:
        self.done.append("eof")

    def close(self) -> None:
        self.done.append("close")

    def abort(self) -> None:
        self.done.append("abort")

    def is_closing(self) -> bool:
        return "close" in self.done or "abort" in self.done

    def get_write_buffer_size(self) -> int:
        return 7

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


@pytest.fixture
def below() -> Recording:
    return Recording()


async def turn() -> None:
    await asyncio.sleep(0)


async def test_a_head_goes_with_its_body(below):
    transport = JoinedWrites(below)
    transport.write(b"head")
    assert (below.done, transport.get_write_buffer_size()) == ([], 11)
    transport.write(b"body")
    await turn()
    assert (below.done, transport.get_write_buffer_size()) == ([b"headbody"], 7)


async def test_a_head_without_a_body_goes_in_the_next_turn(below):
    transport = JoinedWrites(below)
    for _ in range(2):
        transport.write(b"head")
        await turn()
    assert below.done == [b"head"] * 2


@pytest.mark.parametrize("body", [b"", bytearray(b"x"), memoryview(b"x" * 100_000)])
async def test_whatever_comes_after_a_head_goes_with_it_at_once(below, body):
    transport = JoinedWrites(below)
    transport.write(b"head")
    transport.write(body)
    assert below.done == [b"head" + bytes(body)]


async def test_a_large_part_does_not_wait(below):
    transport = JoinedWrites(below)
    transport.write(b"x" * 5000)
    assert below.done == [b"x" * 5000]


async def test_what_a_caller_changes_later_was_not_written(below):
    transport, part = JoinedWrites(below), bytearray(b"head")
    transport.write(part)
    part[:] = b"????"
    await turn()
    assert below.done == [b"head"]


@pytest.mark.parametrize(("end", "last"), [("close", "close"), ("write_eof", "eof")])
async def test_an_end_comes_after_what_was_written(below, end, last):
    transport = JoinedWrites(below)
    transport.write(b"head")
    getattr(transport, end)()
    await turn()
    assert below.done == [b"head", last]


async def test_an_abort_leaves_out_what_was_not_sent(below):
    transport = JoinedWrites(below)
    transport.write(b"head")
    transport.abort()
    await turn()
    assert below.done == ["abort"]


async def app(scope: Any, receive: Any, send: Any) -> None:
    length = b"0" if scope["path"] == "/empty" else b"4"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    if scope["path"] == "/slow":
        await asyncio.sleep(0.01)
    await send({"type": "http.response.body", "body": b"" if scope["path"] == "/empty" else b"body"})


@pytest.mark.parametrize(
    ("sent", "writes"),
    [
        (get("/"), 1),
        (get("/empty"), 1),
        (get("/slow"), 2),
        (get("/").replace(b"GET", b"HEAD"), 1),
        (get("/") * 2, 2),
        (get("/", "Connection: close"), 1),
    ],
)
async def test_an_answer_of_the_server_is_one_write_unless_its_body_is_late(below, sent, writes):
    protocol = BoundedProtocol(
        Connections(), Config(app, ws="none", lifespan="off", log_config=None), ServerState(), app_state={}
    )
    protocol.connection_made(below)
    protocol.data_received(sent)
    async with asyncio.timeout(5):
        while protocol.tasks or len(below.done) < writes:  # noqa: ASYNC110 - answers that are waited for
            await asyncio.sleep(0.002)
    await turn()
    found = [part for part in below.done if isinstance(part, bytes)]
    assert len(found) == writes
    if b"HEAD" not in sent:
        all_of: list[Answer] = answers(b"".join(found))
        assert {answer.status for answer in all_of} == {200}
        assert len(all_of) == sent.count(b"GET")
    assert ("close" in below.done) == (b"close" in sent)
    assert below.done[-1] == "close" or "close" not in below.done
    protocol.connection_lost(None)
