"""Twins of the stores of revocations and tickets."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from domain.errors import Unavailable
from domain.identity import LONGEST_S, Identity
from domain.revocations import Revocation
from domain.tickets import MOST, TTL_S, Ticket, hash_of, new_ticket


@dataclass(slots=True)
class MemoryRevocations:
    """Revocations on a list. Set ``down`` to make it unavailable."""

    rows: list[Revocation] = field(default_factory=list)
    counts: dict[int, int] = field(default_factory=dict)
    down: bool = False

    async def revoke(self, user_id: str, jti: str | None) -> Revocation:
        self._check_up()
        at = time.time()
        made = Revocation(len(self.rows) + 1, user_id, jti, at, at + LONGEST_S)
        self.rows.append(made)
        return made

    async def since(self, mark: float | None) -> tuple[Sequence[Revocation], float]:
        self._check_up()
        return [row for row in self.rows if mark is None or row.at >= mark], time.time()

    async def note_closed(self, number: int, connections: int) -> None:
        self._check_up()
        self.counts[number] = self.counts.get(number, 0) + connections

    async def closed(self, number: int) -> int:
        self._check_up()
        return self.counts.get(number, 0)

    def _check_up(self) -> None:
        if self.down:
            raise Unavailable("PostgreSQL does not answer; try again")


@dataclass(slots=True)
class MemoryTickets:
    """Tickets by a clock that can be set. Set ``down`` to make it unavailable."""

    clock: Callable[[], float] = time.time
    rows: dict[bytes | None, tuple[Identity, str | None, float]] = field(default_factory=dict)
    down: bool = False

    async def issue(self, identity: Identity, origin: str | None) -> Ticket:
        text, now = new_ticket(), self.clock()
        ends = min(now + TTL_S, identity.expires_at)
        self.rows = {key: row for key, row in self.rows.items() if row[2] > now}
        mine = sorted((key for key, row in self.rows.items() if row[0].user_id == identity.user_id), key=self._ends)
        for key in mine[: max(0, len(mine) - MOST + 1)]:
            del self.rows[key]
        self.rows[hash_of(text)] = (identity, origin, ends)
        return Ticket(text, ends)

    def _ends(self, key: bytes | None) -> float:
        return self.rows[key][2]

    async def redeem(self, text: str, origin: str | None) -> Identity | None:
        if self.down:
            raise Unavailable("PostgreSQL does not answer; try again")
        identity, bound_to, ends = self.rows.pop(hash_of(text), (None, None, 0.0))
        return identity if ends > self.clock() and bound_to in (None, origin) else None
