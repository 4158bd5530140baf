"""The life of a batch, written once for all stages.

decode · effect · completions and dead letters · and only then may the records be acknowledged: part by part, so that
what is done is not done again because of what is not. Nothing here knows Faust or an adapter.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

import structlog

from domain.errors import Rejected, Unavailable
from domain.event_log import EventLog
from domain.parking import SetAside
from schemas.codec import Malformed, Record, decode, record
from schemas.events import AnyEvent
from schemas.ids import is_uuid
from streams.dead_letters import PARKED, ConsumerRecord, dead_letter, replay_of
from streams.retry import PartitionRevoked, RetriesExhausted, RetryPolicy
from streams.stage import Outcome, Refused, Stage, Unfinished
from streams.turns import Turn, turn

_log = structlog.get_logger()

_APPEND_MAX = 1_000
"""Records of one append: a room of thousands makes as many notifications of one message."""
_SPLIT = 8
"""Parts of a batch that did not finish in its time. Three splits, so half a minute, lead from 500 records to one."""
_ATTEMPTS = 2  # a record that fails so often, the last time alone, can never work


@dataclass(slots=True)
class Result:
    """Completions and dead letters of a batch, in the batch's order."""

    events: list[AnyEvent] = field(default_factory=list)
    letters: list[Record] = field(default_factory=list)
    dropped: int = 0
    """Records that were refused and not kept."""
    aside: dict[str, SetAside] = field(default_factory=dict)
    """Records that were set aside, by conversation, where order matters."""

    def set_aside(self, stage: Stage, item: _Item, cause: str, *, attempts: int) -> None:
        """Set a record aside that is handled no more; a cause other than PARKED means that it failed."""
        consumed, event = item
        self.write_letter(stage, consumed, cause, attempts=attempts)
        if stage.parking is not None and is_uuid(event.conversation_id):
            id_, failed = event.conversation_id, cause != PARKED
            had = self.aside.get(id_, SetAside(id_, cause, 0, 0))
            self.aside[id_] = SetAside(id_, had.cause, had.failures + failed, had.letters + 1)

    def write_letter(self, stage: Stage, consumed: ConsumerRecord, cause: str, *, attempts: int) -> None:
        """Set a record aside that has no place in an order: its conversation goes on."""
        self.letters.append(dead_letter(stage.name, consumed, cause, attempts=attempts))
        if cause != PARKED:  # what parked its conversation has been logged
            _log_set_aside(stage, consumed, cause)

    def take(self, stage: Stage, items: Sequence[_Item], outcome: Outcome) -> Sequence[_Item]:
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
                self.write_letter(stage, consumed, one.reason, attempts=1)
            else:
                self.dropped += 1
        return [item for item in items if id(item[1]) in unfinished]


_Item: TypeAlias = tuple[ConsumerRecord, AnyEvent]
Done: TypeAlias = Callable[[Sequence[ConsumerRecord], Result], None]


class _TooMany(Unavailable):
    """Several records did not finish in the time of an attempt; it may be that they are too many for it."""


async def turn_of(stage: Stage, batch: Sequence[ConsumerRecord], retry: RetryPolicy) -> Turn:
    """Return which records of the batch are handled now, and in which parts. Raises as ``process`` does."""
    weigh, keys = stage.weigh, [consumed.key for consumed in batch]
    if weigh is None or len(batch) == 1:
        return Turn([range(len(batch))])
    conversations = [(key or b"").decode(errors="replace") for key in keys]
    return turn(keys, await retry.call(lambda: weigh(conversations)))


async def process(stage: Stage, batch: Sequence[ConsumerRecord], log: EventLog, retry: RetryPolicy, done: Done) -> None:
    """Call ``done`` for each part of the batch, in order, once its records may be acknowledged.

    Then their effect is in, and their completions or their dead letters are durable. Raises RetriesExhausted and
    PartitionRevoked; then no other record may be acknowledged.
    """
    waiting = deque(_parts(stage, batch))
    while waiting:
        part = waiting.popleft()
        try:
            result = await _process(stage, part, log, retry)
        except _TooMany as exc:
            _log.debug("batch_split", stage=stage.name, records=len(part), reason=str(exc))
            size = -(-len(part) // _SPLIT)
            waiting.extendleft(part[begin : begin + size] for begin in reversed(range(0, len(part), size)))
        else:
            done(part, result)


def _parts(stage: Stage, batch: Sequence[ConsumerRecord]) -> Iterator[Sequence[ConsumerRecord]]:
    """Yield the batch in parts, where order matters: a part ends with the last record of a replay."""
    begin = 0
    for number, consumed in enumerate(batch if stage.parking is not None else (), 1):
        if (replay := replay_of(consumed, stage.name)) and replay.letters is not None:
            yield batch[begin:number]
            begin = number
    if begin < len(batch):
        yield batch[begin:]


async def _process(stage: Stage, batch: Sequence[ConsumerRecord], log: EventLog, retry: RetryPolicy) -> Result:
    result, items = Result(), list[_Item]()
    for consumed in batch:
        try:
            items.append((consumed, decode(consumed.topic, consumed.key, consumed.value)))
        except Malformed as exc:
            result.write_letter(stage, consumed, str(exc), attempts=1)
    await _handle(stage, await _not_parked(stage, items, retry, result), log, retry, result)
    await _append(stage, [*result.events, *result.letters], log, retry)
    await _keep_order(stage, batch, retry, result)
    return result


async def _append(stage: Stage, written: Sequence[AnyEvent | Record], log: EventLog, retry: RetryPolicy) -> None:
    producer = f"millrace/{stage.name}"
    for begin in range(0, len(written), _APPEND_MAX):
        some = written[begin : begin + _APPEND_MAX]
        part = [each if isinstance(each, Record) else record(each, producer=producer) for each in some]
        # The log has a deadline of its own, at which it rebuilds its producer; ours must not cut that off.
        await retry.call(partial(log.append, part), 1.4 * retry.attempt_s)
        retry.progressed()


async def _not_parked(stage: Stage, items: Sequence[_Item], retry: RetryPolicy, result: Result) -> list[_Item]:
    """Return what may be handled: of a parked conversation only replays, and only while none of them failed again."""
    parking = stage.parking
    if parking is None or not items:
        return list(items)
    conversations = sorted({event.conversation_id for _, event in items if is_uuid(event.conversation_id)})
    parked = await retry.call(lambda: parking.parked(conversations))
    free = []
    for item in items:
        place = parked.get(item[1].conversation_id)
        replay = replay_of(item[0], stage.name)
        if place is None or (replay is not None and replay.failures == place.failures):
            free.append(item)
        else:
            result.set_aside(stage, item, PARKED, attempts=0)
    return free


async def _keep_order(stage: Stage, batch: Sequence[ConsumerRecord], retry: RetryPolicy, result: Result) -> None:
    """Park conversations whose letters are durable now; end a parking whose replay has seen all of its letters."""
    parking = stage.parking
    if parking is None:
        return
    if result.aside:
        await retry.call(lambda: parking.park(list(result.aside.values())))
        for aside in result.aside.values():
            _log.debug("conversation_parked", stage=stage.name, conversation_id=aside.conversation_id)
    replay = replay_of(batch[-1], stage.name)
    if replay is not None and replay.letters is not None:
        conversation_id, letters = (batch[-1].key or b"").decode(errors="replace"), replay.letters
        if is_uuid(conversation_id):
            await retry.call(lambda: parking.unpark(conversation_id, letters))
            _log.debug("conversation_replayed", stage=stage.name, conversation_id=conversation_id, letters=letters)


async def _handle(
    stage: Stage, items: Sequence[_Item], log: EventLog, retry: RetryPolicy, result: Result, *, attempt: int = 1
) -> None:
    items = _not_failed(stage, items, result)
    while items:
        events = [event for _, event in items]
        try:
            # One record is retried for long. Of several it may be that they are too many for the time that they have.
            outcome = await (retry.call if len(items) == 1 else retry.attempt)(partial(stage.handle, events))
            items = result.take(stage, items, outcome)
        except (RetriesExhausted, PartitionRevoked):
            raise
        except Unavailable as exc:
            raise _TooMany(str(exc)) from exc
        except Exception as exc:  # a bug, or one record that can never work: find it, spare the others
            if len(items) == 1 and attempt >= _ATTEMPTS:
                result.set_aside(stage, items[0], _cause(exc), attempts=attempt)
                return
            _log.debug("batch_apart", stage=stage.name, records=len(items), reason=_cause(exc))
            for part in _apart(items):
                await _handle(stage, part, log, retry, result, attempt=attempt + 1)
            return
        if items:  # a crash now costs no event of what is done
            await _append(stage, result.events, log, retry)
            result.events.clear()


def _apart(items: Sequence[_Item]) -> Sequence[Sequence[_Item]]:
    """Return the items of each conversation, in order; of a single conversation, each item alone.

    So every other conversation of a batch pays one transaction more, however many records of others can never work.
    """
    conversations: dict[str, list[_Item]] = {}
    for item in items:
        conversations.setdefault(item[1].conversation_id, []).append(item)
    return list(conversations.values()) if len(conversations) > 1 else [[item] for item in items]


def _declared(stage: Stage, completions: Sequence[AnyEvent]) -> Sequence[AnyEvent]:
    """Return the completions. Raises TypeError for one that the stage does not declare: topics.yaml would be wrong."""
    for event in completions:
        if type(event) not in stage.writes:
            raise TypeError(f"{stage.name} must declare that it writes {event.TOPIC}")
    return completions


def _not_failed(stage: Stage, items: Sequence[_Item], result: Result) -> Sequence[_Item]:
    """Return the items without those behind a failure in their conversation, where order matters."""
    failed = {id_ for id_, aside in result.aside.items() if aside.failures}
    for item in items:
        if item[1].conversation_id in failed:
            result.set_aside(stage, item, PARKED, attempts=0)
    return [item for item in items if item[1].conversation_id not in failed]


def _log_set_aside(stage: Stage, consumed: ConsumerRecord, reason: str) -> None:
    _log.warning(
        "record_set_aside",
        stage=stage.name,
        topic=consumed.topic,
        partition=consumed.partition,
        offset=consumed.offset,
        reason=reason,
    )


def _cause(exc: Exception) -> str:
    # Texts of other people's errors may quote content; ours do not.
    return f"{type(exc).__name__}: {exc}" if isinstance(exc, Rejected) else type(exc).__name__
