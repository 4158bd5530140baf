"""Replay of dead letters: the letters of a stage, and their records back onto the topic in their first order."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from adapters.kafka.consumer import Received, read_topic
from adapters.postgres.parking import PostgresParking
from domain.event_log import EventLog
from domain.parking import Parked
from schemas.codec import Headers, Record
from schemas.topics import dead_letter_topic
from streams.dead_letters import own_headers

_log = structlog.get_logger()

_POLL_S, _STILL_S = 0.1, 60.0
_MAX_ROUNDS = 50


class ReplayUnfinished(Exception):
    """Replay stopped before all letters were replayed; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Letter:
    """Entry of a stage's dead letters. ``place`` names it: partition/offset."""

    id: str
    place: str
    conversation_id: str
    origin: str
    cause: str
    attempts: int
    time: str
    key: bytes
    value: bytes
    headers: Headers
    replayed: bool

    @property
    def order(self) -> tuple[str, int, int]:
        """Return the sort key: the first place of the record, which its letter keeps when a replay fails."""
        topic, partition, offset = self.origin.rsplit("/", 2)
        return topic, int(partition), int(offset)


async def read_letters(bootstrap: str, parking: PostgresParking) -> list[Letter]:
    """Return all dead letters of the stage, in the order of their conversations. Raises Unavailable."""
    received = await read_topic(bootstrap, dead_letter_topic(parking.stage))
    replayed = await parking.replayed()
    return [_letter(record, replayed) for record in received]


def _letter(received: Received, replayed: frozenset[str]) -> Letter:
    marks = {name: value.decode(errors="replace") for name, value in received.headers if name.startswith("dlq-")}
    place = f"{received.partition}/{received.offset}"
    id_ = marks.get("dlq-id") or str(uuid.uuid5(uuid.NAMESPACE_OID, f"{received.topic}/{place}"))
    return Letter(
        id=id_,
        place=place,
        conversation_id=(received.key or b"").decode(errors="replace"),
        origin=marks.get("dlq-origin", "?/0/0"),
        cause=marks.get("dlq-cause", "unknown"),
        attempts=int(marks.get("dlq-attempts", "0")),
        time=marks.get("dlq-time", ""),
        key=received.key or b"",
        value=received.value or b"",
        headers=received.headers,
        replayed=id_ in replayed,
    )


def records(letters: Sequence[Letter], stage: str, parked: Parked | None) -> list[Record]:
    """Return the original records of one conversation in their order, marked as replayed for the stage.

    The last record ends the parking, unless more records were set aside than this round has seen.
    """
    ordered = sorted(letters, key=lambda letter: letter.order)
    made = []
    for letter in ordered:
        marks: Headers = (
            ("dlq-replayed", stage.encode()),
            ("dlq-origin", letter.origin.encode()),
            ("dlq-round", str(parked.failures if parked else 0).encode()),
        )
        if parked is not None and letter is ordered[-1]:
            marks = (*marks, ("dlq-last", str(parked.letters).encode()))
        made.append(Record(letter.order[0], letter.key, letter.value, (*own_headers(letter.headers), *marks)))
    return made


@dataclass(slots=True)
class Replayer:
    """Replays the open letters of a stage, of one conversation or of all, round by round.

    While a conversation is parked, new records of it are set aside, too, also during a round. So a round ends the
    parking only if none came; else the next round replays those that did.
    """

    stage: str
    bootstrap: str
    parking: PostgresParking
    log: EventLog
    conversation_id: str | None = None
    replayed: int = 0
    failing: set[str] = field(default_factory=set)
    """Conversations with a record that failed again."""

    async def run(self) -> None:
        """Return when no letter is open but those that failed again. Raises ReplayUnfinished, Unavailable."""
        for number in range(_MAX_ROUNDS):
            if not await self._round(first=number == 0):
                return
        raise ReplayUnfinished(
            "new records are set aside all the time; run it again when less is written in the conversation"
        )

    async def _round(self, *, first: bool) -> bool:
        # Read before the letters: then every letter that is counted here is among them.
        parked = {id_: p for id_, p in (await self.parking.all()).items() if self._wanted(id_)}
        letters = [
            letter
            for letter in await read_letters(self.bootstrap, self.parking)
            if self._wanted(letter.conversation_id)
        ]
        chosen = _by_conversation(
            letter for letter in letters if not letter.replayed and (first or letter.conversation_id in parked)
        )
        for conversation_id in parked.keys() - chosen.keys():
            await self._end_parking(conversation_id, letters, chosen, parked)
        if not chosen:
            return False
        made = [record for id_, some in chosen.items() for record in records(some, self.stage, parked.get(id_))]
        await self.log.append(made)
        _log.debug("letters_replayed", stage=self.stage, records=len(made), conversations=len(chosen))
        fresh = [letter.id for some in chosen.values() for letter in some if not letter.replayed]
        await self.parking.note_replayed(fresh)
        self.replayed += len(fresh)
        await self._until_moved({id_: parked[id_] for id_ in chosen if id_ in parked})
        return True

    async def _end_parking(
        self,
        conversation_id: str,
        letters: Sequence[Letter],
        chosen: dict[str, list[Letter]],
        parked: Mapping[str, Parked],
    ) -> None:
        """End a parking that outlasted the replay of all its letters: replay the last one, which ends it, again."""
        mine = [letter for letter in letters if letter.conversation_id == conversation_id]
        if mine:
            chosen[conversation_id] = [max(mine, key=lambda letter: letter.order)]
        else:  # the topic of dead letters retains none of it
            await self.parking.unpark(conversation_id, parked[conversation_id].letters)

    def _wanted(self, conversation_id: str) -> bool:
        return conversation_id not in self.failing and self.conversation_id in (None, conversation_id)

    async def _until_moved(self, before: Mapping[str, Parked]) -> None:
        """Wait until each of these conversations is no longer parked, or had more records set aside."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + _STILL_S
        while before:
            now = await self.parking.parked(list(before))
            self.failing |= {id_ for id_, parked in now.items() if parked.failures > before[id_].failures}
            before = {id_: parked for id_, parked in before.items() if now.get(id_) == parked}
            if before and clock() > deadline:
                raise ReplayUnfinished(
                    f"{len(before)} conversations stay parked; check that the stage {self.stage} runs"
                )
            await asyncio.sleep(_POLL_S)


def _by_conversation(letters: Iterable[Letter]) -> dict[str, list[Letter]]:
    found: dict[str, list[Letter]] = {}
    for letter in letters:
        found.setdefault(letter.conversation_id, []).append(letter)
    return found
