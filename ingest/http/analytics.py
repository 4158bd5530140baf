"""Counts of messages by minute."""

from __future__ import annotations

from dataclasses import dataclass

from domain.analytics import MinuteCounts
from domain.conversations import NO_CONVERSATION
from domain.errors import NotFound
from domain.history import History
from ingest.http.params import moment
from ingest.http.routing import Answer, Call, Endpoints
from schemas.answers import ConversationAnalytics, MinuteMessages
from schemas.calls import AnalyticsQuery
from schemas.clock import wire_time


@dataclass(frozen=True, slots=True)
class AnalyticsEndpoints:
    """Calls about counts."""

    history: History
    counts: MinuteCounts

    def endpoints(self) -> Endpoints:
        return {"getAnalytics": self.get}

    async def get(self, call: Call[AnalyticsQuery, None]) -> Answer[ConversationAnalytics]:
        conversation_id, query = call.path["id"], call.query
        if await self.history.membership(conversation_id, call.user) is None:
            raise NotFound(NO_CONVERSATION)
        start, end = moment(query.start, "from"), moment(query.end, "to")
        rows = await self.counts.minutes(conversation_id, start, end, query.limit)
        minutes = tuple(MinuteMessages(minute=wire_time(minute), messages=count) for minute, count in rows)
        return Answer(ConversationAnalytics(conversation_id=conversation_id, minutes=minutes))
