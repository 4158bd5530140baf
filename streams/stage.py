"""The life of a batch, written once for all stages.

decode · effect · completions and dead letters · and only then may the records be acknowledged. Nothing here knows
Faust or an adapter.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from runtime.errors import MillraceError, Rejected, Unavailable
from runtime.ports import EventLog
from schemas.clock import now
from schemas.codec import Headers, Malformed, Record, decode, record
from schemas.events import AnyEvent
from streams.lanes import BATCH, LANES

T = TypeVar("T")
_ATTEMPTS = 2  # a record that fails so often, the last time alone, can never work

Handle: TypeAlias = Callable[[Sequence[AnyEvent]], Awaitable[Sequence[AnyEvent]]]


class GiveUp(MillraceError):
    """Trouble lasted too long: the process must end without committing."""


class Abandoned(MillraceError):
    """The records are not ours any more: somebody else works on them."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A name (also the consumer group), what it reads, and its rule: events in, completions out.

    At most ``lanes`` batches of at most ``batch`` events are worked on at the same time.

    ``handle`` may get a batch again, wholly or in part, after a crash: its effect is idempotent and it returns the
    same completions. It raises Unavailable for what may work later; anything else is taken for a record that can
    never work.
    """

    name: str
    reads: tuple[type[AnyEvent], ...]
    handle: Handle
    lanes: int = LANES
    batch: int = BATCH

    @property
    def dead_letters(self) -> str:
        """The topic of records that can never work."""
        return f"{self.name}.dlq"


@dataclass(frozen=True, slots=True)
class Taken:
    """A record as it came from Kafka, all bytes as they were."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


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
            if not self.ours():
                raise Abandoned("the partition went elsewhere")
            try:
                async with asyncio.timeout(attempt_s or self.attempt_s):
                    return await attempt()
            except (Unavailable, TimeoutError) as exc:
                if clock() + wait > deadline:
                    raise GiveUp(f"trouble lasted over {self.total_s:.0f} s: {exc or type(exc).__name__}") from exc
            self.retried()
            await asyncio.sleep(wait * random.uniform(0.5, 1.5))
            wait = min(wait * 2, self.most_s)


@dataclass(slots=True)
class Result:
    """What came of a batch, in the batch's order."""

    events: list[AnyEvent] = field(default_factory=list)
    letters: list[Record] = field(default_factory=list)


_Item: TypeAlias = tuple[Taken, AnyEvent]


async def process(stage: Stage, batch: Sequence[Taken], log: EventLog, patience: Patience) -> Result:
    """Return only when every record of the batch may be acknowledged: its effect is in, and its completions or its
    dead letter are durable.

    Raises GiveUp and Abandoned; then nothing may be acknowledged.
    """
    result, items = Result(), []
    for taken in batch:
        try:
            items.append((taken, decode(taken.topic, taken.value)))
        except Malformed as exc:
            result.letters.append(dead_letter(stage, taken, str(exc), attempts=1))
    await _handle(stage, items, patience, result)
    completions = [record(event, producer=f"millrace/{stage.name}") for event in result.events]
    # The log has a deadline of its own, at which it rebuilds its producer; ours must not cut that off.
    await patience.call(lambda: log.append([*completions, *result.letters]), 1.4 * patience.attempt_s)
    return result


async def _handle(
    stage: Stage, items: Sequence[_Item], patience: Patience, result: Result, *, attempt: int = 1
) -> None:
    if not items:
        return
    events = [event for _, event in items]
    try:
        result.events += await patience.call(lambda: stage.handle(events))
    except (GiveUp, Abandoned):
        raise
    except Exception as exc:  # a bug, or one record that can never work: find it, spare the others
        if len(items) == 1 and attempt >= _ATTEMPTS:
            result.letters.append(dead_letter(stage, items[0][0], _cause(exc), attempts=attempt))
            return
        middle = len(items) // 2  # of one record: nothing, and the record again
        await _handle(stage, items[:middle], patience, result, attempt=attempt + 1)
        await _handle(stage, items[middle:], patience, result, attempt=attempt + 1)


def _cause(exc: Exception) -> str:
    # Texts of other people's errors may quote content; ours do not.
    return f"{type(exc).__name__}: {exc}" if isinstance(exc, Rejected) else type(exc).__name__


def dead_letter(stage: Stage, taken: Taken, cause: str, *, attempts: int) -> Record:
    """The record with its original bytes, and where it came from and why it is here."""
    about: Headers = (
        ("dlq-stage", stage.name.encode()),
        ("dlq-cause", cause[:300].encode()),
        ("dlq-attempts", str(attempts).encode()),
        ("dlq-origin", f"{taken.topic}/{taken.partition}/{taken.offset}".encode()),
        ("dlq-time", now().encode()),
    )
    return Record(stage.dead_letters, taken.key or b"", taken.value or b"", (*taken.headers, *about))
