"""What the store holds of some conversations, whole: for those who judge it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runtime.store.pool import Pool, connection
from runtime.store.statements import load

_SQL = load("truth")


@dataclass(frozen=True, slots=True)
class StoredTruth:
    """Reads everything of these conversations; each call sees one moment. All raise Unavailable."""

    pool: Pool
    conversation_ids: Sequence[str]

    async def heads(self) -> Mapping[str, int]:
        """The last seq of each."""
        return dict(await self._all("heads"))

    async def rows(self) -> Sequence[tuple[Any, ...]]:
        """(message id, conversation, seq, sender, client message id, sha256 of the content, status)."""
        return await self._all("rows")

    async def entries(self) -> Sequence[tuple[Any, ...]]:
        """(conversation, seq, kind, message id) of the change log."""
        return await self._all("entries")

    async def marks(self) -> Sequence[tuple[Any, ...]]:
        """(conversation, user, delivered seq, read seq)."""
        return await self._all("marks")

    async def statuses(self) -> Mapping[str, int]:
        """Message id → status."""
        return dict(await self._all("statuses"))

    async def owed(self) -> tuple[int, int]:
        """How many outbox rows are not published, and how many messages are pending."""
        [(unpublished, pending)] = await self._all("owed")
        return unpublished, pending

    async def _all(self, name: str) -> list[tuple[Any, ...]]:
        async with connection(self.pool) as conn:
            return await (await conn.execute(_SQL[name], {"ids": list(self.conversation_ids)})).fetchall()
