"""The final state of a stack that somebody else runs, read over HTTP as its members read it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2

from adapters.postgres.snapshot import Snapshot
from domain.errors import Unavailable
from schemas.messages import Status
from verify.final_state import digest
from verify.history import Room

_PAGE = 200


@dataclass(frozen=True, slots=True)
class RemoteState:
    """Reads in the name of each conversation's owner. Changes that are no messages are not told apart."""

    client: httpx2.AsyncClient
    url: str
    rooms: Sequence[Room]
    token: Callable[[str], str]

    @property
    def conversation_ids(self) -> Sequence[str]:
        """Ids in the order of the rooms."""
        return [room.conversation_id for room in self.rooms]

    async def heads(self) -> Mapping[str, int]:
        """Return the head of each conversation. Raises Unavailable."""
        return {room.conversation_id: (await self._conversation(room))["headSeq"] for room in self.rooms}

    async def marks(self) -> Sequence[tuple[Any, ...]]:
        """Return (conversation, user, delivered seq, read seq) of each member. Raises Unavailable."""
        return [
            (room.conversation_id, m["userId"], m["deliveredSeq"], m["readSeq"])
            for room in self.rooms
            for m in (await self._conversation(room))["members"]
        ]

    async def owed(self) -> tuple[int, int]:
        """Return (0, as the outbox cannot be seen from here; number of pending messages). Raises Unavailable."""
        return 0, sum(status == 0 for status in (await self.statuses()).values())

    async def statuses(self) -> Mapping[str, int]:
        """Return the status of each message id. Raises Unavailable."""
        return {m["messageId"]: _status(m) for room in self.rooms async for m in self._messages(room)}

    async def snapshot(self) -> Snapshot:
        """Return all rows, entries and watermarks. A message's key is found by its content. Raises Unavailable."""
        rows: list[tuple[Any, ...]] = []
        entries: list[tuple[Any, ...]] = []
        heads = await self.heads()
        for room in self.rooms:
            id_ = room.conversation_id
            keys = {digest(sending.send.content): sending.send.key for sending in room.sendings}
            there: dict[int, str] = {}
            async for m in self._messages(room):
                content = digest(m["content"])
                rows.append((m["messageId"], id_, m["seq"], m["senderId"], keys.get(content), content, _status(m)))
                there[m["seq"]] = m["messageId"]
            entries += [
                (id_, seq, "message" if seq in there else "other", there.get(seq)) for seq in range(1, heads[id_] + 1)
            ]
        return Snapshot(heads, rows, entries, await self.marks())

    async def _conversation(self, room: Room) -> dict[str, Any]:
        return await self._get(room, f"/conversations/{room.conversation_id}")

    async def _messages(self, room: Room) -> AsyncIterator[dict[str, Any]]:
        after, more = 0, True
        while more:
            page = await self._get(room, f"/conversations/{room.conversation_id}/messages?after={after}&limit={_PAGE}")
            for message in page["messages"]:
                yield message
                after = message["seq"]
            more = page["hasMore"]

    async def _get(self, room: Room, path: str) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {self.token(room.workload.owner)}"}
        try:
            answer = await self.client.get(f"{self.url}{path}", headers=headers)
            answer.raise_for_status()
        except httpx2.HTTPError as exc:
            raise Unavailable(f"{self.url} does not answer a reading as it should: {type(exc).__name__}") from exc
        body: dict[str, Any] = answer.json()
        return body


def _status(message: Mapping[str, Any]) -> int:
    return int(Status[str(message["status"]).upper()])
