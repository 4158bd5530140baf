"""History of conversations: their changes and members, as read by gateways and clients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias, TypeVar

from adapters.postgres import rows
from adapters.postgres.pool import Connection, Pool, connection
from adapters.postgres.replica import Replica, read
from adapters.postgres.statements import load
from domain.history import Heads, Membership, Participant
from runtime.dataloader import DataLoader
from schemas.ids import NO_DEVICE, is_uuid
from schemas.messages import Change

_SQL = load("history")

T = TypeVar("T", int, int | None)
_Page: TypeAlias = tuple[str, int, int, int]
_Device: TypeAlias = tuple[str, str, str]
"""(conversation, user, device)."""


_PAGES = 16
"""Greatest number of pages of changes in one query."""


class PostgresHistory:
    """History on the primary, but for pages of changes, which may come from a replica. An id that is no UUID names
    nothing.

    Concurrent lookups are batched, since many clients join at once.
    """

    def __init__(self, pool: Pool, replica: Replica | None = None) -> None:
        self.pool, self.replica = pool, replica
        self._memberships = DataLoader(self._read_memberships)
        self._heads = DataLoader(self._read_each_head)
        self._shared = DataLoader(self._read_shared)
        self._everybody = DataLoader(self._read_members)
        self._participants = DataLoader(self._read_participants)
        self._reached = DataLoader(self._read_reached)
        self._small = DataLoader(self._read_small)
        self._pages = DataLoader(self._read_pages, _PAGES)

    async def membership(self, conversation_id: str, user_id: str) -> Membership | None:
        return await self._memberships.get((conversation_id, user_id)) if is_uuid(conversation_id) else None

    async def _read_memberships(self, wanted: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Membership | None]:
        conversations, users = zip(*wanted, strict=True)
        joined = await self._all("memberships", {"conversations": list(conversations), "users": list(users)})
        found = {(conversation, user): Membership(*seqs) for conversation, user, *seqs in joined}
        return {pair: found.get(pair) for pair in wanted}

    async def members(self, conversation_id: str, limit: int | None = None) -> Sequence[str]:
        return await self._everybody.get((conversation_id, limit))

    async def _read_members(
        self, wanted: Sequence[tuple[str, int | None]]
    ) -> Mapping[tuple[str, int | None], list[str]]:
        found: dict[tuple[str, int | None], list[str]] = {pair: [] for pair in wanted}
        for id_, limit, user in await self._listed("members", "conversations", wanted):
            found[id_, limit].append(user)
        return found

    async def participants(self, conversation_id: str, limit: int) -> Sequence[Participant]:
        return await self._participants.get((conversation_id, limit))

    async def _read_participants(
        self, wanted: Sequence[tuple[str, int]]
    ) -> Mapping[tuple[str, int], list[Participant]]:
        found: dict[tuple[str, int], list[Participant]] = {pair: [] for pair in wanted}
        for id_, limit, user, has_written in await self._listed("participants", "conversations", wanted):
            found[id_, limit].append(Participant(id_, user, has_written))
        return found

    async def heads(self, conversation_ids: Sequence[str]) -> Heads:
        if len(conversation_ids) != 1:
            return await self._read_heads(conversation_ids)
        return await self._heads.get(conversation_ids[0])

    async def _read_each_head(self, conversation_ids: Sequence[str]) -> Mapping[str, Heads]:
        return dict.fromkeys(conversation_ids, await self._read_heads(conversation_ids))

    async def _read_heads(self, conversation_ids: Sequence[str]) -> Heads:
        found = await self._all("heads", {"ids": list(conversation_ids)})
        return Heads(found[0][0], {id_: head for _, id_, head in found if id_ is not None})

    async def shared(self, conversation_id: str, epoch: str) -> int:
        return await self._shared.get((conversation_id, epoch))

    async def _read_shared(self, wanted: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], int]:
        conversations, epochs = map(list, zip(*wanted, strict=True))
        found = await self._all("shared", {"conversations": conversations, "epochs": epochs})
        return {**dict.fromkeys(wanted, 0), **{(id_, epoch): seq for id_, epoch, seq in found}}

    async def changes(self, conversation_id: str, after: int, up_to: int, limit: int) -> Sequence[Change]:
        return await self._pages.get((conversation_id, after, up_to, limit))

    async def _read_pages(self, wanted: Sequence[_Page]) -> Mapping[_Page, Sequence[Change]]:
        return await read(self.pool, self.replica, partial(_pages, wanted))

    async def place_of(self, message_id: str) -> tuple[str, int] | None:
        if not is_uuid(message_id):
            return None
        found = await self._all("place_of", {"message_id": message_id})
        return (found[0][0], found[0][1]) if found else None

    async def reached(self, conversation_id: str, user_id: str, device: str) -> tuple[int, int]:
        return await self._reached.get((conversation_id, user_id, device))

    async def _read_reached(self, wanted: Sequence[_Device]) -> Mapping[_Device, tuple[int, int]]:
        conversations, users, devices = map(list, zip(*wanted, strict=True))
        columns = {"conversations": conversations, "users": users, "devices": devices, "no_device": NO_DEVICE}
        found = await self._all("reached", columns)
        return {(id_, user, device): (delivered, read) for id_, user, device, delivered, read in found}

    async def small_conversations(self, user_id: str, max_members: int) -> Sequence[Participant]:
        return await self._small.get((user_id, max_members))

    async def _read_small(self, wanted: Sequence[tuple[str, int]]) -> Mapping[tuple[str, int], list[Participant]]:
        found: dict[tuple[str, int], list[Participant]] = {pair: [] for pair in wanted}
        for user, limit, id_, has_written in await self._listed("small_conversations", "users", wanted):
            found[user, limit].append(Participant(id_, user, has_written))
        return found

    async def _listed(self, name: str, about: str, wanted: Sequence[tuple[str, T]]) -> list[tuple[Any, ...]]:
        """Return the rows of all these (id, limit); each row begins with its own."""
        ids, limits = zip(*wanted, strict=True)
        return await self._all(name, {about: list(ids), "limits": list(limits)})

    async def _all(self, name: str, params: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        async with connection(self.pool) as conn:
            cursor = await conn.execute(_SQL[name], params)
            return await cursor.fetchall()


async def _pages(wanted: Sequence[_Page], conn: Connection) -> Mapping[_Page, Sequence[Change]]:
    names = ("conversation_id", "after", "up_to", "limit")
    async with conn.pipeline():
        cursors = [await conn.execute(_SQL["changes"], dict(zip(names, page, strict=True))) for page in wanted]
        return {
            page: [rows.change(row) for row in await cursor.fetchall()]
            for page, cursor in zip(wanted, cursors, strict=True)
        }
