"""Replay of dead letters: their records go to the stage's retry topic in their first order, and the verdict is awaited.

letters ──► STAGE.retry ──► the stage ──► its position passes the record ──► no newer letter: handled
                                                                         └─► a newer letter: failed again
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from domain.event_log import ConsumedRecord, EventLog
from domain.parking import Closed, LetterStore, Outcome, Parked
from schemas.codec import Record
from schemas.topics import retry_topic
from streams.dead_letters import PARKED, Replay, retry, round_end
from streams.letters import Choice, Letter, newest, open_by_conversation

_log = structlog.get_logger()

RATE = 500
"""Records a second of a replay, unless the operator says otherwise: live records keep most of the stage's time."""
_POLL_S = 0.2
_MAX_ROUNDS = 50
_HANDLED = Closed(Outcome.HANDLED)


class ReplayUnfinished(Exception):
    """A replay ended before there was a verdict on all its letters; the text says what to do."""


class LetterLog(Protocol):
    """The topics of one stage's dead letters and retries."""

    async def letters(self) -> Sequence[ConsumedRecord]:
        """Return all records of the topic of dead letters, each partition in order. Raises Unavailable."""

    async def reached(self) -> Mapping[str, int]:
        """Return retry topic/partition → the offset up to which the stage is done. Raises Unavailable."""


@dataclass(slots=True)
class Verdict:
    """Outcome of a replay. ``failed``: the newer letters of records that failed again, by their origin."""

    replayed: set[str] = field(default_factory=set)
    """Origins of the records that were replayed."""
    handled: int = 0
    failed: dict[str, Letter] = field(default_factory=dict)
    waiting: set[str] = field(default_factory=set)
    """Origins of records that were set aside again, behind one of their conversation that failed."""

    @property
    def causes(self) -> Counter[str]:
        """Return the number of records that failed again, by cause."""
        return Counter(letter.cause for letter in self.failed.values())


@dataclass(frozen=True, slots=True)
class Part:
    """The letters of one conversation that a round replays, and its state when the round began; None if not parked."""

    conversation_id: str
    letters: Sequence[Letter]
    parked: Parked | None


def records(stage: str, part: Part) -> list[Record]:
    """Return the original records of one conversation in their order, for the stage's retry topic.

    For a parked conversation one more follows, which ends the parking unless more records were set aside than this
    round has seen.
    """
    failures = part.parked.failures if part.parked else 0
    made = [
        retry(
            stage,
            letter.key,
            letter.value,
            letter.headers,
            origin=letter.origin,
            replay=Replay(failures, letter.attempts),
        )
        for letter in sorted(part.letters, key=lambda letter: letter.order)
    ]
    if part.parked is not None:
        made.append(round_end(stage, part.conversation_id, part.parked.letters))
    return made


def chosen(letters: Sequence[Letter], parked: Mapping[str, Parked], choice: Choice) -> list[Part]:
    """Return the parts of a first round: open letters of the choice; of a parked conversation all that are open.

    Of a parked conversation no letter may be left out, for the order's sake. One without any open letter just ends its
    parking.
    """
    by_conversation, parts = open_by_conversation(letters), []
    for id_, mine in by_conversation.items():
        wanted = [letter for letter in mine if choice.includes(letter)]
        if wanted:
            parts.append(Part(id_, mine if id_ in parked else wanted, parked.get(id_)))
    if choice.is_of_conversations:
        outlasting = parked.keys() - by_conversation.keys()
        parts += [Part(id_, (), parked[id_]) for id_ in sorted(outlasting) if choice.conversation_id in (None, id_)]
    return parts


def waiting(letters: Sequence[Letter], parked: Mapping[str, Parked], conversations: Iterable[str]) -> list[Part]:
    """Return the parts of a further round: those of these conversations that are still parked."""
    mine = open_by_conversation(letters)
    return [Part(id_, mine.get(id_, ()), parked[id_]) for id_ in sorted(conversations) if id_ in parked]


@dataclass(slots=True)
class Replayer:
    """Replays letters of a stage, round by round.

    While a conversation is parked, new records of it are set aside, too, also during a round. So a round ends the
    parking only if none came; else the next round replays those that did. A letter is closed only after its verdict: a
    replay that is interrupted leaves it open, and the stage may get it twice, which has no further effect.
    """

    stage: str
    letters: LetterLog
    store: LetterStore
    log: EventLog
    rate: int = RATE
    still_s: float = 30.0
    """Seconds without progress of the stage after which the replay gives up."""
    verdict: Verdict = field(default_factory=Verdict)
    failing: set[str] = field(default_factory=set)
    """Conversations that stay parked, since one of their records failed again."""

    async def run(self, choice: Choice) -> Verdict:
        """Replay the open letters of the choice; return the verdict. Raises ReplayUnfinished, Unavailable."""
        return await self.run_parts(chosen(*await self.read(), choice))

    async def run_parts(self, parts: Sequence[Part]) -> Verdict:
        """Replay these parts, and what is set aside meanwhile. Raises ReplayUnfinished, Unavailable."""
        for _ in range(_MAX_ROUNDS):
            if not parts:
                return self.verdict
            await self._round(parts)
            further = {part.conversation_id for part in parts if part.parked or self._is_waiting(part)} - self.failing
            letters, parked = await self.read()
            parts = waiting(letters, parked, further)
        raise ReplayUnfinished(
            "new records are set aside all the time; run it again when less is written in the conversation"
        )

    async def read(self) -> tuple[list[Letter], Mapping[str, Parked]]:
        """Return the letters and the parked conversations. Raises Unavailable."""
        parked = await self.store.all()  # before the letters: then every letter that is counted here is among them
        return newest(await self.letters.letters(), await self.store.closed()), parked

    def _is_waiting(self, part: Part) -> bool:
        return any(letter.origin in self.verdict.waiting for letter in part.letters)

    async def _round(self, parts: Sequence[Part]) -> None:
        made = [record for part in parts for record in records(self.stage, part)]
        self.verdict.replayed |= {letter.origin for part in parts for letter in part.letters}
        await self._until_reached(await self._append(made))
        _log.debug("letters_replayed", stage=self.stage, records=len(made), conversations=len(parts))
        await self._judge(parts)

    async def _append(self, made: Sequence[Record]) -> Mapping[str, int]:
        """Append at the rate; return the ends of the retry topic behind the records."""
        clock, ends = asyncio.get_running_loop().time, dict[str, int]()
        mine = f"{retry_topic(self.stage)}/"
        for begin in range(0, len(made), self.rate):
            began = clock()
            for place, end in (await self.log.append(made[begin : begin + self.rate])).items():
                if place.startswith(mine):
                    ends[place] = max(end, ends.get(place, 0))
            if begin + self.rate < len(made):
                await asyncio.sleep(max(0.0, began + 1.0 - clock()))
        return ends

    async def _until_reached(self, ends: Mapping[str, int]) -> None:
        """Wait until the stage has committed all these positions: then each record has its effect or its new letter."""
        clock = asyncio.get_running_loop().time
        left, moved_at = sum(ends.values()), clock()
        while left:
            reached = await self.letters.reached()
            now = sum(max(0, end - reached.get(place, 0)) for place, end in ends.items())
            if now < left:
                left, moved_at = now, clock()
            elif clock() - moved_at > self.still_s:
                raise ReplayUnfinished(
                    f"the stage {self.stage} has not come to all replayed records: check that it runs"
                    f" (`millrace agents list`), then see `millrace dlq list {self.stage}`"
                )
            if left:
                await asyncio.sleep(_POLL_S)

    async def _judge(self, parts: Sequence[Part]) -> None:
        """Close the letters without a newer one, and note those that have one."""
        now = {letter.origin: letter for letter in newest(await self.letters.letters(), {})}
        verdict, handled = self.verdict, []
        for part in parts:
            for letter in part.letters:
                newer = now.get(letter.origin, letter)
                verdict.waiting.discard(letter.origin)
                if newer.id == letter.id:
                    handled.append(letter.id)
                elif newer.cause == PARKED:
                    verdict.waiting.add(letter.origin)
                else:
                    verdict.failed[letter.origin] = newer
                    self.failing.add(part.conversation_id)
        if handled:
            await self.store.close(handled, _HANDLED)
        verdict.handled += len(handled)


async def discard(replayer: Replayer, choice: Choice, reason: str) -> list[Letter]:
    """Close the failed letters of the choice, and let their parked conversations go on; return the closed letters.

    The records that wait behind them are handled in order, as a replay; the replayer has the verdict on these. Raises
    ReplayUnfinished, Unavailable.
    """
    letters, parked = await replayer.read()
    given_up = discardable(letters, choice)
    await replayer.store.close([letter.id for letter in given_up], Closed(Outcome.DISCARDED, reason))
    ids = {letter.id for letter in given_up}
    rest = [letter for letter in letters if letter.id not in ids]
    await replayer.run_parts(waiting(rest, parked, {letter.conversation_id for letter in given_up}))
    return given_up


def discardable(letters: Sequence[Letter], choice: Choice) -> list[Letter]:
    """Return the letters of the choice that are open and failed; those that wait behind one are not given up."""
    return [
        letter for letter in letters if letter.closed is None and letter.cause != PARKED and choice.includes(letter)
    ]
