"""What the store holds of some conversations, whole: for those who judge it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.postgres.pool import Connection, Pool, connection, transaction
from adapters.postgres.statements import load

_SQL = load("truth")


@dataclass(frozen=True, slots=True)
class Whole:
    """Rows of the store."""

    heads: Mapping[str, int]
    """The last seq of each conversation."""
    rows: Sequence[tuple[Any, ...]]
    """(message id, conversation, seq, sender, client message id, sha256 of the content, status)."""
    entries: Sequence[tuple[Any, ...]]
    """(conversation, seq, kind, message id) of the change log."""
    marks: Sequence[tuple[Any, ...]]
    """(conversation, user, delivered seq, read seq)."""


@dataclass(frozen=True, slots=True)
class StoredTruth:
    """Reads what there is of these conversations; each call sees one moment. All raise Unavailable."""

    pool: Pool
    conversation_ids: Sequence[str]

    async def heads(self) -> Mapping[str, int]:
        """The last seq of each."""
        return dict(await self._all("heads"))

    async def whole(self) -> Whole:
        """Everything, as of one moment."""
        async with transaction(self.pool) as conn:
            await conn.execute(_SQL["one_moment"])
            found = [await self._on(conn, name) for name in ("heads", "rows", "entries", "marks")]
        return Whole(dict(found[0]), *found[1:])

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
            return await self._on(conn, name)

    async def _on(self, conn: Connection, name: str) -> list[tuple[Any, ...]]:
        return await (await conn.execute(_SQL[name], {"ids": list(self.conversation_ids)})).fetchall()
