"""Twin of the store of idempotency keys."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from domain.idempotency import KEPT_S, check_same


@dataclass(slots=True)
class MemoryIdempotencyKeys:
    """Keys in a dict. ``clock`` gives Unix seconds."""

    clock: Callable[[], float] = time.time
    rows: dict[tuple[str, str], tuple[bytes, int, float]] = field(default_factory=dict)

    async def find(self, user_id: str, key: str, request_hash: bytes) -> int | None:
        known, status, ends = self.rows.get((user_id, key), (request_hash, 0, 0.0))
        if ends <= self.clock():
            return None
        check_same(request_hash, known)
        return status

    async def keep(self, user_id: str, key: str, request_hash: bytes, status: int) -> None:
        now = self.clock()
        self.rows = {place: row for place, row in self.rows.items() if row[2] > now}
        self.rows.setdefault((user_id, key), (request_hash, status, now + KEPT_S))
