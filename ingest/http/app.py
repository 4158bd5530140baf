"""The application: its endpoints, and what stands around them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp

from domain.analytics import MinuteCounts
from domain.conversations import Conversations
from domain.history import History
from domain.idempotency import IdempotencyKeys
from domain.invitations import Invitations
from domain.messages import Messages
from domain.notifications import Inbox
from domain.origins import Origin
from domain.policy import Policy, Relations
from domain.rates import Budgets, Rates
from domain.receipts import Receipts
from domain.search import Search
from domain.tickets import Tickets
from ingest.accept import Accept
from ingest.http.analytics import AnalyticsEndpoints
from ingest.http.auth import CallerAuth
from ingest.http.concurrency import CallSlots
from ingest.http.conversations import ConversationEndpoints
from ingest.http.cors import Cors
from ingest.http.idempotency import Once
from ingest.http.invitations import InvitationEndpoints
from ingest.http.limits import LimitEndpoints
from ingest.http.media import MediaEndpoints
from ingest.http.messages import MessageEndpoints
from ingest.http.middleware import CallMiddleware
from ingest.http.notifications import NotificationEndpoints
from ingest.http.receipts import ReceiptEndpoints
from ingest.http.routing import CallRouter, Endpoints, routes
from ingest.http.search import SearchEndpoints
from ingest.http.tickets import TicketEndpoints
from ingest.memberships import Memberships

_UPLOADS = "/media"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """Everything behind the calls. ``changed`` tells the relay of a conversation's new event."""

    accept: Accept
    changed: Callable[[str], None]
    history: History
    messages: Messages
    conversations: Conversations
    invitations: Invitations
    relations: Relations
    policy: Policy
    most_invitations: int = 0
    receipts: Receipts
    search: Search
    inbox: Inbox
    counts: MinuteCounts
    tickets: Tickets
    rates: Rates
    budgets: Budgets
    media: MediaEndpoints
    keys: IdempotencyKeys

    def endpoints(self) -> Endpoints:
        """Return the endpoint of every operation."""
        memberships = Memberships(
            self.conversations, self.invitations, self.relations, self.policy, self.most_invitations
        )
        endpoints: Endpoints = {
            **MessageEndpoints(self.accept, self.messages, self.history, self.policy).endpoints(),
            **ConversationEndpoints(self.conversations, memberships, self.changed).endpoints(),
            **InvitationEndpoints(self.invitations, memberships, self.changed).endpoints(),
            **ReceiptEndpoints(self.receipts, self.changed).endpoints(),
            **SearchEndpoints(self.search).endpoints(),
            **NotificationEndpoints(self.inbox).endpoints(),
            **AnalyticsEndpoints(self.history, self.counts).endpoints(),
            **TicketEndpoints(self.tickets).endpoints(),
            **LimitEndpoints(self.rates, self.budgets).endpoints(),
            **self.media.endpoints(),
        }
        return {**endpoints, **Once(self.keys).endpoints(endpoints)}


def create_app(
    auth: CallerAuth, slots: CallSlots, endpoints: Endpoints, origins: frozenset[Origin] = frozenset()
) -> ASGIApp:
    """Return the public HTTP application with these endpoints, for pages of these origins too."""
    calls = CallMiddleware(CallRouter(routes(auth, slots, endpoints)), _UPLOADS)
    return Cors(calls, origins)  # outside of all, so that a page can read every answer
