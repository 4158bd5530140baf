"""Messages as clients read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.postgres import rows
from adapters.postgres.pool import Pool, connection
from adapters.postgres.statements import load
from schemas.clock import wire_time
from schemas.ids import is_uuid
from schemas.messages import Message

_SQL = load("messages")
_NO_LIMIT = 2**62


@dataclass(frozen=True, slots=True)
class MemberReceipt:
    """How far one message has come with one member. Times are of the watermark that covered it last."""

    user_id: str
    status: str
    delivered_at: str | None
    read_at: str | None


@dataclass(frozen=True, slots=True)
class PostgresMessages:
    """Pages and single messages; membership is checked by the caller, or in the statement for one message."""

    pool: Pool

    async def page(self, conversation_id: str, after: int | None, before: int | None, limit: int) -> Sequence[Message]:
        """Messages between two seqs (exclusive), ascending: the oldest when ``after`` is given, else the newest.

        Raises Unavailable.
        """
        params = {
            "conversation_id": conversation_id,
            "after": after,
            "before": _NO_LIMIT if before is None else before,
            "limit": limit,
        }
        if after is not None:
            return [rows.message(row) for row in await self._all("oldest_first", params)]
        return [rows.message(row) for row in reversed(await self._all("newest_first", params))]

    async def one(self, message_id: str, user_id: str) -> Message | None:
        """The message, for a member of its conversation. Raises Unavailable."""
        if not is_uuid(message_id):
            return None
        found = await self._all("one", {"message_id": message_id, "user_id": user_id})
        return rows.message(found[0]) if found else None

    async def receipts(self, message_id: str) -> Sequence[MemberReceipt]:
        """How far the message has come with each other member. Raises Unavailable."""
        return [_receipt(*row) for row in await self._all("receipts", {"message_id": message_id})]

    async def _all(self, name: str, params: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        async with connection(self.pool) as conn:
            return await (await conn.execute(_SQL[name], params)).fetchall()


def _receipt(user_id: str, delivered: bool, read: bool, delivered_at: Any, read_at: Any) -> MemberReceipt:
    return MemberReceipt(
        user_id,
        "read" if read else "delivered" if delivered else "sent",
        wire_time(delivered_at) if delivered and delivered_at else None,
        wire_time(read_at) if read and read_at else None,
    )
