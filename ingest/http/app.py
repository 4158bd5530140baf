"""The application: routes, and the one mapping of errors to answers."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute

from domain.errors import MillraceError
from ingest.http.auth import DeclaredLength
from ingest.http.middleware import Deadline
from ingest.http.problems import on_bug, on_error, on_gone, on_http_exception

UPLOADS = "/media"


def create_app(routes: Iterable[BaseRoute]) -> Starlette:
    """The public HTTP application."""
    return Starlette(
        routes=list(routes),
        middleware=[Middleware(Deadline), Middleware(DeclaredLength, unlimited=UPLOADS)],
        exception_handlers={
            MillraceError: on_error,
            HTTPException: on_http_exception,
            ClientDisconnect: on_gone,
            Exception: on_bug,
        },
    )
