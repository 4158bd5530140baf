"""Twin of the messages about whose notifications nothing is decided yet."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from domain.notifications import Due
from schemas.messages import Message


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class MemoryClaim:
    """Messages that are held, and what becomes of them at the end of the block: None for forgotten, or a time."""

    message_ids: Sequence[str]
    now: Callable[[], datetime]
    results: dict[str, datetime | None] = field(default_factory=dict)

    async def settle(self, message_ids: Sequence[str]) -> None:
        self.results.update(dict.fromkeys(message_ids))

    async def postpone(self, message_ids: Sequence[str], after_s: float) -> None:
        self.results.update(dict.fromkeys(message_ids, self.now() + timedelta(seconds=after_s)))


@dataclass(slots=True)
class MemoryUndecided:
    """Undecided messages: message id → conversation and time. ``held`` has the messages and conversations of claims."""

    now: Callable[[], datetime] = _now
    rows: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)

    async def defer(self, messages: Sequence[Message], after_s: float) -> None:
        due_at = self.now() + timedelta(seconds=after_s)
        for message in messages:
            self.rows.setdefault(message.message_id, (message.conversation_id, due_at))

    async def due(self, after: datetime | None = None) -> Due:
        times = [due_at for _, due_at in self.rows.values() if after is None or due_at > after]
        return Due(self.now(), min(times, default=None))

    @asynccontextmanager
    async def claim(self, until: datetime, limit: int, after: datetime | None = None) -> AsyncIterator[MemoryClaim]:
        due = [
            (due_at, id_)
            for id_, (_, due_at) in self.rows.items()
            if (after is None or due_at > after) and due_at <= until and id_ not in self.held
        ]
        ids = [id_ for _, id_ in sorted(due)[:limit] if self.rows[id_][0] not in self.held]
        holds = {*ids, *(self.rows[id_][0] for id_ in ids)}
        self.held |= holds
        claim = MemoryClaim(ids, self.now)
        try:
            yield claim
            for id_, due_at in claim.results.items():
                if due_at is None:
                    del self.rows[id_]
                else:
                    self.rows[id_] = self.rows[id_][0], due_at
        finally:
            self.held -= holds
