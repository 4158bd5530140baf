"""Twin of the parked conversations and of the closed dead letters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from domain.parking import Closed, Parked, SetAside


@dataclass(slots=True)
class MemoryParking:
    """Parking and LetterStore on dictionaries."""

    rows: dict[str, Parked] = field(default_factory=dict)
    letters: dict[str, Closed] = field(default_factory=dict)

    async def parked(self, conversation_ids: Sequence[str]) -> Mapping[str, Parked]:
        return {id_: self.rows[id_] for id_ in conversation_ids if id_ in self.rows}

    async def park(self, aside: Sequence[SetAside]) -> None:
        for more in aside:
            had = self.rows.get(more.conversation_id, Parked(0, 0))
            self.rows[more.conversation_id] = Parked(had.failures + more.failures, had.letters + more.letters)

    async def unpark(self, conversation_id: str, letters: int) -> bool:
        row = self.rows.get(conversation_id)
        if row is None or row.letters != letters:
            return False
        del self.rows[conversation_id]
        return True

    async def all(self) -> Mapping[str, Parked]:
        return dict(self.rows)

    async def closed(self) -> Mapping[str, Closed]:
        return dict(self.letters)

    async def close(self, letter_ids: Sequence[str], end: Closed) -> None:
        for id_ in letter_ids:
            self.letters.setdefault(id_, end)


MemoryLetterStore = MemoryParking
