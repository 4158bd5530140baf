"""An HTTP server at rest wakes once a second, and ends at once."""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn

from runtime.http.limits import Connections
from runtime.http.server import _Server, http_server


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """An application that nobody calls."""


async def test_it_looks_once_a_second_and_has_a_date(monkeypatch):
    server, ticks = _Server(uvicorn.Config(nothing, log_config=None)), []
    tick = server.on_tick

    async def counted(counter: int) -> bool:
        ticks.append(asyncio.get_running_loop().time())
        return await tick(counter)

    monkeypatch.setattr(server, "on_tick", counted)
    running = asyncio.create_task(server.main_loop())
    async with asyncio.timeout(5):
        while len(ticks) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert ticks[1] - ticks[0] >= 0.9
    assert b"date" in dict(server.server_state.default_headers)
    server.end()
    async with asyncio.timeout(0.5):
        await running


async def test_it_ends_without_waiting_for_the_next_look():
    async with http_server(nothing, "127.0.0.1", 0, Connections()) as port:
        assert port > 0
        ending = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - ending < 0.8
