"""The port of an ingest that starts: it is open at once, and refuses calls while the store does not answer."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from domain.errors import Unavailable
from domain.origins import Origin
from ingest.http.cors import Cors
from ingest.http.problems import problem_of


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    refusal = problem_of(Unavailable("this server is starting and waits for PostgreSQL; try again"))
    await refusal(scope, receive, send)


@dataclass(slots=True)
class Opening:
    """The application as soon as there is one; until then each call is answered 503: nothing is stored."""

    origins: frozenset[Origin] = frozenset()
    app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self.app or Cors(_refuse, self.origins))(scope, receive, send)
