"""Faults of the log: foreign records on a topic that stages or gateways read."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from adapters.kafka.raw import write_raw
from domain.errors import Unavailable
from runtime.tasks import end
from verify.faults.fault import Fault
from verify.faults.target import NotPossible, Target
from verify.foreign_records import foreign_records

_EVERY_S = 0.5


@dataclass(slots=True, kw_only=True)
class Poison(Fault):
    """Writes records of every foreign kind to a topic, about conversations of the run, as long as it lasts."""

    topic: str
    lasts_s: float = 10.0
    _writing: asyncio.Task[None] | None = None
    _written: int = 0

    def __post_init__(self) -> None:
        self.name, self.targets = f"poison-{self.topic}", (self.topic,)
        self.summary = f"writes foreign records to the topic {self.topic}"

    async def inject(self, target: Target) -> None:
        if target.history is None or not target.history.accepted():
            raise NotPossible("no message is accepted yet that a record could pretend to know")
        await self._write(target)
        self._writing = asyncio.create_task(self._go_on(target))

    async def _go_on(self, target: Target) -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            with suppress(NotPossible):  # another fault has the broker; this one goes on afterwards
                await self._write(target)

    async def _write(self, target: Target) -> None:
        assert target.history is not None
        known = target.rng.choice(target.history.accepted())
        records = list(foreign_records(self.topic, known, target.rng))
        target.history.foreign += records
        try:  # a broker may be down meanwhile: then some of them may be written
            await write_raw(target.kafka, [(record.topic, record.key, record.value) for record in records])
        except Unavailable as exc:
            raise NotPossible("the brokers do not take records") from exc
        target.history.written += records
        self._written += len(records)
        self.evidence = f"{self._written} records written"

    async def heal(self, target: Target) -> None:
        if self._writing is not None:
            await end(self._writing)
            self._writing = None
