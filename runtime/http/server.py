"""HTTP servers of a process: a uvicorn server on a listener with bounds."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import structlog
import uvicorn

from runtime.http.limits import Connections
from runtime.http.protocol import BoundedProtocol
from runtime.listener import open_listener

_log = structlog.get_logger()

_BACKLOG = 1024
_GRACE_S = 15
_TICK_S = 1.0
_OTHER_FILES = 256
"""Open files of a process besides the connections of its clients."""


class _Server(uvicorn.Server):
    """A uvicorn server without signal handlers of its own: runtime.lifecycle decides when to stop.

    It wakes once a second, for the ``Date`` of its answers, and not ten times, to see whether it should end.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ended = asyncio.Event()

    def install_signal_handlers(self) -> None:
        """Install none: see runtime.lifecycle."""

    def end(self) -> None:
        """End as soon as what is under way has ended."""
        self.should_exit = True
        self._ended.set()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(_TICK_S):
                    await self._ended.wait()


@asynccontextmanager
async def http_server(
    app: Callable[..., Awaitable[None]], host: str, port: int, bounds: Connections
) -> AsyncIterator[int]:
    """Serve while the block runs, and yield the port; on leaving it, finish what is under way, bounded."""
    _make_room(bounds)
    # A class for uvicorn, which only calls it.
    protocol: Any = partial(BoundedProtocol, bounds)
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # the protocol knows which proxies to believe
        backlog=_BACKLOG,
        timeout_graceful_shutdown=_GRACE_S,
    )
    server = _Server(config)
    with open_listener(host, port) as listener:
        task = asyncio.create_task(server._serve(sockets=[listener]))
        try:
            while not server.started:
                if task.done():
                    raise RuntimeError("the server did not start; is its port taken?")
                await asyncio.sleep(0.005)
            yield listener.getsockname()[1]
        finally:
            server.end()
            await asyncio.wait({task}, timeout=_GRACE_S + 10)


def _make_room(bounds: Connections) -> None:
    """Let the process open as many files as its limit of connections needs, or lower the limit to what it may open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = bounds.limits.max_connections + _OTHER_FILES
    if soft < wanted and soft != resource.RLIM_INFINITY:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if soft < wanted:
            fitting = max(1, soft - _OTHER_FILES)
            _log.warning("connections_limited", reason="open files", max_connections=fitting)
            bounds.limits = replace(bounds.limits, max_connections=fitting)
