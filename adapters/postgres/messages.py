"""Messages in PostgreSQL, as clients read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from adapters.postgres import rows
from adapters.postgres.pool import Pool
from adapters.postgres.replica import Replica, read, rows_of
from adapters.postgres.statements import load
from domain.messages import MemberReceipt
from schemas.clock import wire_time
from schemas.ids import is_uuid
from schemas.messages import Message

_SQL = load("messages")
_NO_LIMIT = 2**62


@dataclass(frozen=True, slots=True)
class PostgresMessages:
    """Messages in PostgreSQL, read from a replica where there is one. The statement for a single message checks
    membership."""

    pool: Pool
    replica: Replica | None = None

    async def page(
        self, conversation_id: str, after: int | None, before: int | None, limit: int, hidden_up_to: int = 0
    ) -> Sequence[Message]:
        params = {
            "conversation_id": conversation_id,
            "after": max(after or 0, hidden_up_to),
            "before": _NO_LIMIT if before is None else before,
            "limit": limit,
        }
        if after is not None:
            return [rows.message(row) for row in await self._all("oldest_first", params)]
        return [rows.message(row) for row in reversed(await self._all("newest_first", params))]

    async def one(self, message_id: str, user_id: str) -> Message | None:
        if not is_uuid(message_id):
            return None
        found = await self._all("one", {"message_id": message_id, "user_id": user_id})
        return rows.message(found[0]) if found else None

    async def find(self, message_ids: Sequence[str]) -> Mapping[str, Message]:
        found = await self._all("find", {"ids": list(message_ids)})
        return {row[0]: rows.message(row) for row in found}

    async def receipts(self, message_id: str) -> Sequence[MemberReceipt]:
        return [_receipt(*row) for row in await self._all("receipts", {"message_id": message_id})]

    async def _all(self, name: str, params: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return await read(self.pool, self.replica, partial(rows_of, _SQL[name], params))


def _receipt(user_id: str, delivered: bool, read: bool, delivered_at: Any, read_at: Any) -> MemberReceipt:
    return MemberReceipt(
        user_id,
        "read" if read else "delivered" if delivered else "sent",
        wire_time(delivered_at) if delivered and delivered_at else None,
        wire_time(read_at) if read and read_at else None,
    )
