"""``POST /ws-ticket``: what opens one WebSocket in place of a token."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from domain.errors import Invalid
from domain.tickets import Tickets
from ingest.http.auth import Edge
from ingest.http.problems import json
from schemas.clock import wire_seconds

_MAX_ORIGIN = 300


@dataclass(frozen=True, slots=True)
class TicketCalls:
    """Calls about tickets."""

    edge: Edge
    tickets: Tickets

    def routes(self) -> list[Route]:
        return [Route("/ws-ticket", self.post, methods=["POST"])]

    async def post(self, request: Request) -> Response:
        """201 with a ticket, for pages of the ``Origin`` that the request has, if any."""
        identity = await self.edge.bearer(request)
        origin = request.headers.get("origin")
        if origin is not None and (len(origin) > _MAX_ORIGIN or not origin.isprintable()):
            raise Invalid(f"Origin has at most {_MAX_ORIGIN} characters")
        ticket = await self.tickets.issue(identity, origin)
        return json({"ticket": ticket.text, "expiresAt": wire_seconds(ticket.expires_at)}, 201)
