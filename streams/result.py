"""The result of a batch of a stage: completions, dead letters, and what was set aside."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import structlog

from domain.parking import SetAside
from schemas.codec import Record, key_of
from schemas.events import AnyEvent
from schemas.ids import is_uuid
from streams.dead_letters import PARKED, ConsumerRecord, dead_letter
from streams.failures import Failure
from streams.stage import Outcome, Refused, Stage, Unfinished

_log = structlog.get_logger()


@dataclass(slots=True)
class Result:
    """Completions and dead letters of a batch, in the batch's order."""

    events: list[AnyEvent] = field(default_factory=list)
    """Completions that are not written yet."""
    told: Collection[str] = ()
    """Ids of completions that people were told of before."""
    letters: list[Record] = field(default_factory=list)
    dropped: int = 0
    """Records that were refused and not kept."""
    aside: dict[str, SetAside] = field(default_factory=dict)
    """Records that were set aside, by conversation, where order matters."""

    failures: dict[Failure, list[Item]] = field(default_factory=dict)

    def set_aside(self, stage: Stage, item: Item, failure: Failure, *, attempts: int) -> None:
        """Set a record aside that is handled no more; a cause other than PARKED means that it failed."""
        (consumed, event), cause = item, failure.cause
        self.write_letter(stage, consumed, failure, attempts=attempts)
        if failure is not BEHIND:
            self.failures.setdefault(failure, []).append(item)
        if stage.parking is not None and is_uuid(key_of(event)):
            id_, failed = key_of(event), cause != PARKED
            had = self.aside.get(id_, SetAside(id_, cause, 0, 0))
            self.aside[id_] = SetAside(id_, had.cause, had.failures + failed, had.letters + 1)

    def write_letter(self, stage: Stage, consumed: ConsumerRecord, failure: Failure, *, attempts: int) -> None:
        """Set a record aside that has no place in an order: its conversation goes on."""
        about = failure.about.items()
        self.letters.append(dead_letter(stage.name, consumed, failure.cause, attempts=attempts, about=about))
        if failure is not BEHIND:  # what parked its conversation has been logged
            _log_set_aside(stage, consumed, failure.cause)

    def take(self, stage: Stage, items: Sequence[Item], outcome: Outcome) -> Sequence[Item]:
        """Take what the rule returned for these items; return those that are not finished.

        Raises TypeError for an event that is not declared.
        """
        self.events += _declared(stage, [each for each in outcome if not isinstance(each, Refused | Unfinished)])
        unfinished = {id(one.event) for one in outcome if isinstance(one, Unfinished)}
        refused = {id(one.event): one for one in outcome if isinstance(one, Refused)}
        for consumed, event in items if refused else ():
            if (one := refused.get(id(event))) is None:
                continue
            if one.keep:
                self.write_letter(stage, consumed, Failure(one.reason), attempts=1)
            else:
                self.dropped += 1
        return [item for item in items if id(item[1]) in unfinished]


Item: TypeAlias = tuple[ConsumerRecord, AnyEvent]
BEHIND = Failure(PARKED)


def _declared(stage: Stage, completions: Sequence[AnyEvent]) -> Sequence[AnyEvent]:
    """Return the completions. Raises TypeError for one that the stage does not declare: topics.yaml would be wrong."""
    for event in completions:
        if type(event) not in stage.writes:
            raise TypeError(f"{stage.name} must declare that it writes {event.TOPIC}")
    return completions


def _log_set_aside(stage: Stage, consumed: ConsumerRecord, reason: str) -> None:
    _log.warning(
        "record_set_aside",
        stage=stage.name,
        topic=consumed.topic,
        partition=consumed.partition,
        offset=consumed.offset,
        reason=reason,
    )


def log_failures(stage: Stage, result: Result) -> None:
    """Log each cause once, with its first record: a bug may fail thousands."""
    for failure, items in result.failures.items():
        consumed, event = items[0]
        _log.warning(
            "record_failed",
            stage=stage.name,
            key=key_of(event),
            topic=consumed.topic,
            partition=consumed.partition,
            offset=consumed.offset,
            records=len(items),
            reason=failure.cause,
            detail=failure.detail,
            stack=failure.stack,
        )
