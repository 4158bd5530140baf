"""The life of a batch, written once for all stages.

decode · effect · completions and dead letters · and only then may the records be acknowledged. Nothing here knows
Faust or an adapter.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias, TypeVar

from domain.errors import MillraceError, Rejected, Unavailable
from domain.event_log import EventLog
from domain.parking import Parking, SetAside
from schemas.codec import Malformed, Record, decode, record
from schemas.events import AnyEvent
from schemas.ids import is_uuid
from streams.dead_letters import PARKED, Taken, dead_letter, replay_of
from streams.lanes import AT_ONCE, Pace

T = TypeVar("T")
_APPENDED = 5_000
"""Records of one append: a room of thousands makes as many notifications of one message."""
_ATTEMPTS = 2  # a record that fails so often, the last time alone, can never work

Handle: TypeAlias = Callable[[Sequence[AnyEvent]], Awaitable[Sequence[AnyEvent]]]


class GiveUp(MillraceError):
    """Trouble lasted too long: the process must end without committing."""


class Abandoned(MillraceError):
    """The records are not ours any more: somebody else works on them."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A name (also the consumer group), what it reads, and its rule: events in, completions out.

    ``handle`` may get a batch again, wholly or in part, after a crash: its effect is idempotent and it returns the
    same completions. It raises Unavailable for what may work later; anything else is taken for a record that can
    never work.
    """

    name: str
    reads: tuple[type[AnyEvent], ...]
    handle: Handle
    parking: Parking | None = None
    """Where order matters: once a record of a conversation has failed, all later ones of it are set aside too, until
    they are replayed in order. None where each record stands for itself."""
    pace: Pace = AT_ONCE

    @property
    def dead_letters(self) -> str:
        """The topic of records that can never work."""
        return f"{self.name}.dlq"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long transient trouble is waited out.

    ``attempt_s`` stays below half of the group's rebalance time-out, for which the consumer waits for work under way;
    between attempts ``ours`` is asked, so a long outage holds up no rebalance.
    """

    total_s: float = 40.0
    attempt_s: float = 10.0
    first_s: float = 0.1
    most_s: float = 5.0
    ours: Callable[[], bool] = lambda: True
    retried: Callable[[], None] = lambda: None

    async def call(self, attempt: Callable[[], Awaitable[T]], attempt_s: float | None = None) -> T:
        """Try until it works. Raises GiveUp after ``total_s``, Abandoned when the records are not ours."""
        clock = asyncio.get_running_loop().time
        deadline, wait = clock() + self.total_s, self.first_s
        while True:
            try:
                return await self.once(attempt, attempt_s)
            except Unavailable as exc:
                if clock() + wait > deadline:
                    raise GiveUp(f"trouble lasted over {self.total_s:.0f} s: {exc}") from exc
            await asyncio.sleep(wait * random.uniform(0.5, 1.5))
            wait = min(wait * 2, self.most_s)

    async def once(self, attempt: Callable[[], Awaitable[T]], attempt_s: float | None = None) -> T:
        """One try. Raises Unavailable, also when it takes too long, and Abandoned when the records are not ours."""
        if not self.ours():
            raise Abandoned("the partition went elsewhere")
        try:
            async with asyncio.timeout(attempt_s or self.attempt_s):
                return await attempt()
        except (Unavailable, TimeoutError) as exc:
            self.retried()
            raise Unavailable(str(exc) or "it took too long") from exc


@dataclass(slots=True)
class Result:
    """What came of a batch, in the batch's order."""

    events: list[AnyEvent] = field(default_factory=list)
    letters: list[Record] = field(default_factory=list)
    aside: dict[str, SetAside] = field(default_factory=dict)
    """By conversation, when order matters: what was set aside of it."""

    def set_aside(self, stage: Stage, item: _Item, cause: str, *, attempts: int) -> None:
        """A record that is handled no more; a cause other than PARKED means that it failed."""
        taken, event = item
        self.letters.append(dead_letter(stage.name, taken, cause, attempts=attempts))
        if stage.parking is not None and is_uuid(event.conversation_id):
            id_, failed = event.conversation_id, cause != PARKED
            had = self.aside.get(id_, SetAside(id_, cause, 0, 0))
            self.aside[id_] = SetAside(id_, had.cause, had.failures + failed, had.letters + 1)


_Item: TypeAlias = tuple[Taken, AnyEvent]


async def process(stage: Stage, batch: Sequence[Taken], log: EventLog, patience: Patience) -> Result:
    """Return only when every record of the batch may be acknowledged: its effect is in, and its completions or its
    dead letter are durable.

    Raises GiveUp and Abandoned; then nothing may be acknowledged.
    """
    whole = Result()
    for part in _parts(stage, batch):
        result = await _process(stage, part, log, patience)
        whole.events += result.events
        whole.letters += result.letters
    return whole


def _parts(stage: Stage, batch: Sequence[Taken]) -> Iterator[Sequence[Taken]]:
    """Where order matters a part ends with the last record of a replay: behind it the conversation goes on."""
    begin = 0
    for number, taken in enumerate(batch if stage.parking is not None else (), 1):
        if (replay := replay_of(taken, stage.name)) and replay.letters is not None:
            yield batch[begin:number]
            begin = number
    if begin < len(batch):
        yield batch[begin:]


async def _process(stage: Stage, batch: Sequence[Taken], log: EventLog, patience: Patience) -> Result:
    result, items = Result(), list[_Item]()
    for taken in batch:
        try:
            items.append((taken, decode(taken.topic, taken.value)))
        except Malformed as exc:  # it has no place in an order
            result.letters.append(dead_letter(stage.name, taken, str(exc), attempts=1))
    await _handle(stage, await _not_parked(stage, items, patience, result), patience, result)
    completions = [record(event, producer=f"millrace/{stage.name}") for event in result.events]
    written = [*completions, *result.letters]
    for begin in range(0, len(written), _APPENDED):
        part = written[begin : begin + _APPENDED]
        # The log has a deadline of its own, at which it rebuilds its producer; ours must not cut that off.
        await patience.call(partial(log.append, part), 1.4 * patience.attempt_s)
    await _keep_order(stage, batch, patience, result)
    return result


async def _not_parked(stage: Stage, items: Sequence[_Item], patience: Patience, result: Result) -> list[_Item]:
    """What may be handled: of a parked conversation only what is replayed, and only while no replay failed again."""
    parking = stage.parking
    if parking is None or not items:
        return list(items)
    conversations = sorted({event.conversation_id for _, event in items if is_uuid(event.conversation_id)})
    parked = await patience.call(lambda: parking.parked(conversations))
    free = []
    for item in items:
        place = parked.get(item[1].conversation_id)
        replay = replay_of(item[0], stage.name)
        if place is None or (replay is not None and replay.failures == place.failures):
            free.append(item)
        else:
            result.set_aside(stage, item, PARKED, attempts=0)
    return free


async def _keep_order(stage: Stage, batch: Sequence[Taken], patience: Patience, result: Result) -> None:
    """The letters are durable: now they count, and a replay that has seen all of them ends the parking."""
    parking = stage.parking
    if parking is None:
        return
    if result.aside:
        await patience.call(lambda: parking.park(list(result.aside.values())))
    replay = replay_of(batch[-1], stage.name)
    if replay is not None and replay.letters is not None:
        conversation_id, letters = (batch[-1].key or b"").decode(errors="replace"), replay.letters
        if is_uuid(conversation_id):
            await patience.call(lambda: parking.unpark(conversation_id, letters))


async def _handle(
    stage: Stage, items: Sequence[_Item], patience: Patience, result: Result, *, attempt: int = 1
) -> None:
    items = _not_failed(stage, items, result)
    if not items:
        return
    events = [event for _, event in items]
    try:
        # One record has all our patience. Of several it may be that they are too many for the time that they have.
        result.events += await (patience.call if len(items) == 1 else patience.once)(lambda: stage.handle(events))
    except (GiveUp, Abandoned):
        raise
    except Unavailable:
        middle = len(items) // 2
        await _handle(stage, items[:middle], patience, result, attempt=attempt)
        await _handle(stage, items[middle:], patience, result, attempt=attempt)
    except Exception as exc:  # a bug, or one record that can never work: find it, spare the others
        if len(items) == 1 and attempt >= _ATTEMPTS:
            result.set_aside(stage, items[0], _cause(exc), attempts=attempt)
            return
        middle = len(items) // 2  # of one record: nothing, and the record again
        await _handle(stage, items[:middle], patience, result, attempt=attempt + 1)
        await _handle(stage, items[middle:], patience, result, attempt=attempt + 1)


def _not_failed(stage: Stage, items: Sequence[_Item], result: Result) -> Sequence[_Item]:
    """Without what comes after a failure in its conversation, when order matters."""
    failed = {id_ for id_, aside in result.aside.items() if aside.failures}
    for item in items:
        if item[1].conversation_id in failed:
            result.set_aside(stage, item, PARKED, attempts=0)
    return [item for item in items if item[1].conversation_id not in failed]


def _cause(exc: Exception) -> str:
    # Texts of other people's errors may quote content; ours do not.
    return f"{type(exc).__name__}: {exc}" if isinstance(exc, Rejected) else type(exc).__name__
