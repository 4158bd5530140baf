"""Operator port of a process: ``/healthz``, ``/readyz``, ``/metrics``. Never the public port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from runtime.metrics import registry_of
from runtime.settings import Listen


class QuietServer(uvicorn.Server):
    """A uvicorn server without signal handlers of its own: runtime.lifecycle decides when to stop."""

    def install_signal_handlers(self) -> None:
        """Install none: see runtime.lifecycle."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve while the block runs; on leaving it, finish what is under way, bounded."""
        task = asyncio.create_task(self._serve())
        try:
            while not self.started:
                if task.done():
                    raise RuntimeError("the server did not start; is its port taken?")
                await asyncio.sleep(0.005)
            yield
        finally:
            self.should_exit = True
            await asyncio.wait({task}, timeout=25)


@asynccontextmanager
async def operator_server(listen: Listen, role: str, ready: Callable[[], bool]) -> AsyncIterator[None]:
    """Serve the operator port of a process with this role while the block runs."""
    registry = registry_of(role)

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        return PlainTextResponse("ready\n") if ready() else PlainTextResponse("not ready\n", 503)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    app = Starlette(
        routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)],
    )
    config = uvicorn.Config(app, host=listen.host, port=listen.port, log_config=None, access_log=False, lifespan="off")
    async with QuietServer(config).running():
        yield
