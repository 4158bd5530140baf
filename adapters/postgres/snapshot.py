"""Snapshot of the stored state of some conversations, for the checker of the fault prover."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.postgres.pool import Connection, Pool, connection, transaction
from adapters.postgres.statements import load

_SQL = load("truth")
_PARTS = ("heads", "rows", "entries", "marks", "devices", "notifications")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Stored state of the conversations at one moment."""

    heads: Mapping[str, int]
    """The last seq of each conversation."""
    rows: Sequence[tuple[Any, ...]]
    """Messages: (message id, conversation, seq, sender, client message id, sha256 of the content, status)."""
    entries: Sequence[tuple[Any, ...]]
    """Change log: (conversation, seq, kind, message id)."""
    marks: Sequence[tuple[Any, ...]]
    """Watermarks: (conversation, user, delivered seq, read seq)."""
    devices: Sequence[tuple[Any, ...]] | None = None
    """Watermarks of devices: (conversation, user, device, delivered seq, read seq); None where they cannot be seen."""
    notifications: Sequence[tuple[Any, ...]] = ()
    """Notifications: (conversation, notification id, user, message id, seq, seen)."""


@dataclass(frozen=True, slots=True)
class SnapshotReader:
    """Reads the stored state of these conversations; each call sees one moment. All raise Unavailable.

    ``others``: conversations of which only what is owed counts.
    """

    pool: Pool
    conversation_ids: Sequence[str]
    others: Sequence[str] = ()

    async def heads(self) -> Mapping[str, int]:
        """Return the last seq of each conversation."""
        return dict(await self._all("heads"))

    async def snapshot(self) -> Snapshot:
        """Return the whole state at one moment."""
        async with transaction(self.pool) as conn:
            await conn.execute(_SQL["one_moment"])
            found = [await self._on(conn, name) for name in _PARTS]
        return Snapshot(dict(found[0]), *found[1:])

    async def marks(self) -> Sequence[tuple[Any, ...]]:
        """Return the watermarks: (conversation, user, delivered seq, read seq)."""
        return await self._all("marks")

    async def devices(self) -> Sequence[tuple[Any, ...]] | None:
        """Return the watermarks of devices: (conversation, user, device, delivered seq, read seq)."""
        return await self._all("devices")

    async def notifications(self) -> Sequence[tuple[Any, ...]]:
        """Return the notifications: (conversation, notification id, user, message id, seq, seen)."""
        return await self._all("notifications")

    async def statuses(self) -> Mapping[str, int]:
        """Return the status of each message by its id."""
        return dict(await self._all("statuses"))

    async def owed(self) -> tuple[int, int]:
        """Return the number of outbox rows that are not published, and of messages that are pending."""
        [(unpublished, pending)] = await self._all("owed", self.others)
        return unpublished, pending

    async def undecided(self) -> int:
        """Return the number of messages about whose notifications nothing is decided yet."""
        [(count,)] = await self._all("undecided", self.others)
        return int(count)

    async def _all(self, name: str, others: Sequence[str] = ()) -> list[tuple[Any, ...]]:
        async with connection(self.pool) as conn:
            return await self._on(conn, name, others)

    async def _on(self, conn: Connection, name: str, others: Sequence[str] = ()) -> list[tuple[Any, ...]]:
        return await (await conn.execute(_SQL[name], {"ids": [*self.conversation_ids, *others]})).fetchall()
