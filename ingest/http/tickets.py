"""Tickets, each of which opens one WebSocket in place of a token."""

from __future__ import annotations

from dataclasses import dataclass

from domain.errors import Invalid
from domain.tickets import Tickets
from ingest.http.routing import Answer, Call, Endpoints
from schemas.answers import TicketIssued
from schemas.clock import wire_seconds

_MAX_ORIGIN = 300


@dataclass(frozen=True, slots=True)
class TicketEndpoints:
    """Calls about tickets."""

    tickets: Tickets

    def endpoints(self) -> Endpoints:
        return {"issueTicket": self.issue}

    async def issue(self, call: Call[None, None]) -> Answer[TicketIssued]:
        """Return a ticket for pages of the ``Origin`` that the request has, if any."""
        origin = call.headers.get("origin")
        if origin is not None and (len(origin) > _MAX_ORIGIN or not origin.isprintable()):
            message = f"must have at most {_MAX_ORIGIN} printable characters"
            raise Invalid(f"Origin {message}", [("Origin", message)])
        ticket = await self.tickets.issue(call.identity, origin)
        return Answer(TicketIssued(ticket=ticket.text, expires_at=wire_seconds(ticket.expires_at)), 201)
