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

    async def devices(self) -> None:
        """Return None: the calls tell the watermarks of members only."""

    async def notifications(self) -> Sequence[tuple[Any, ...]]:
        """Return the notifications of those who were away: (conversation, notification id, user, message id, seq,
        seen). Raises Unavailable."""
        found, ids = list[tuple[Any, ...]](), set(self.conversation_ids)
        for user in sorted({user for room in self.rooms for user in room.workload.away}):
            async for n in self._notifications(user):
                message = n["message"]
                place = message["conversationId"]
                if place in ids:
                    seen = n["seenAt"] is not None
                    found.append((place, n["notificationId"], user, message["messageId"], message["seq"], seen))
        return found

    async def owed(self) -> tuple[int, int]:
        """Return (0, as the outbox cannot be seen from here; number of pending messages). Raises Unavailable."""
        return 0, sum(status == 0 for status in (await self.statuses()).values())

    async def undecided(self) -> int:
        """Return 0, as what is due cannot be seen from here."""
        return 0

    async def statuses(self) -> Mapping[str, int]:
        """Return the status of each message id. Raises Unavailable."""
        return {m["messageId"]: _status(m) for room in self.rooms async for m in self._messages(room)}

    async def snapshot(self) -> Snapshot:
        """Return all rows, entries, watermarks and notifications. A message's key is found by its content.

        Raises Unavailable.
        """
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
        return Snapshot(heads, rows, entries, await self.marks(), None, await self.notifications())

    async def _conversation(self, room: Room) -> dict[str, Any]:
        return await self._get(room.workload.owner, f"/conversations/{room.conversation_id}")

    async def _notifications(self, user: str) -> AsyncIterator[dict[str, Any]]:
        path, cursor = f"/notifications?limit={_PAGE}", ""
        while True:
            page = await self._get(user, f"{path}{cursor}")
            for notification in page["notifications"]:
                yield notification
            if page["next"] is None:
                return
            cursor = f"&cursor={page['next']}"

    async def _messages(self, room: Room) -> AsyncIterator[dict[str, Any]]:
        after, more = 0, True
        while more:
            path = f"/conversations/{room.conversation_id}/messages?after={after}&limit={_PAGE}"
            page = await self._get(room.workload.owner, path)
            for message in page["messages"]:
                yield message
                after = message["seq"]
            more = page["hasMore"]

    async def _get(self, user: str, path: str) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {self.token(user)}"}
        try:
            answer = await self.client.get(f"{self.url}{path}", headers=headers)
            answer.raise_for_status()
        except httpx2.HTTPError as exc:
            raise Unavailable(f"{self.url} does not answer a reading as it should: {type(exc).__name__}") from exc
        body: dict[str, Any] = answer.json()
        return body


def _status(message: Mapping[str, Any]) -> int:
    return int(Status[str(message["status"]).upper()])
