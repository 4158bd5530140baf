"""Operator port of a process: ``/healthz``, ``/readyz``, ``/metrics``. Never the public port."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from runtime.http.limits import Connections, HttpLimits
from runtime.http.server import http_server
from runtime.metrics import registry_of
from runtime.settings import Listen

WARNING = "warning: "
_LIMITS = HttpLimits(max_connections=256, connections_per_address=0)
"""Its clients are few, and may share an address: monitoring, load balancers."""


@asynccontextmanager
async def operator_server(
    listen: Listen, role: str, ready: Callable[[], bool], warnings: Callable[[], Sequence[str]] = tuple
) -> AsyncIterator[None]:
    """Serve the operator port of a process with this role while the block runs.

    ``warnings``: sentences on what is wrong although the process works; each is a line of ``/readyz``.
    """
    registry = registry_of(role)

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        is_ready = ready()
        lines = ["ready" if is_ready else "not ready", *(f"{WARNING}{warning}" for warning in warnings())]
        return PlainTextResponse("\n".join(lines) + "\n", 200 if is_ready else 503)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    app = Starlette(
        routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)],
    )
    app.router.redirect_slashes = False
    async with http_server(app, listen.host, listen.port, Connections(_LIMITS)):
        yield
