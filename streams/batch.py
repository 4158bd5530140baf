"""The life of a batch, written once for all stages.

decode · effect · completions and dead letters · and only then may the records be acknowledged. Nothing here knows
Faust or an adapter.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeAlias

import structlog

from domain.errors import Unavailable
from domain.event_log import EventLog
from domain.skips import SKIPPED
from schemas.codec import Malformed, Record, decode, key_of, record
from schemas.events import AnyEvent
from schemas.ids import is_uuid
from streams.dead_letters import ConsumerRecord, at_origin
from streams.failures import Failure, failure_of
from streams.result import BEHIND, Item, Result, log_failures
from streams.retry import NotWanted, PartitionRevoked, RetriesExhausted, RetryPolicy, TurnEnded
from streams.stage import Missing, Stage
from streams.turns import Turn, lane_key, turn

__all__ = ["Result", "process", "turn_of"]

_log = structlog.get_logger()

_APPEND_MAX = 1_000
"""Records of one append: a room of thousands makes as many notifications of one message."""
_SPLIT = 8
"""Parts of a batch that did not finish in its time. Three splits, so half a minute, lead from 500 records to one."""
_ATTEMPTS = 2  # a record that fails so often, the last time alone, can never work

Done: TypeAlias = Callable[[Sequence[ConsumerRecord], Result], None]


class _TooMany(Unavailable):
    """Several records did not finish in the time of an attempt; it may be that they are too many for it."""


async def turn_of(stage: Stage, batch: Sequence[ConsumerRecord], retry: RetryPolicy) -> Turn:
    """Return which records of the batch are handled now, and in which parts. Raises as ``process`` does."""
    weigh, keys = stage.weigh, [consumed.key for consumed in batch]
    if stage.owner_of is not None and lane_key(at_origin(stage.name, batch[0]), stage.owner_of):
        return Turn([range(1)], range(1, len(batch)))
    if weigh is None or len(batch) == 1:
        return Turn([range(len(batch))])
    conversations = [(key or b"").decode(errors="replace") for key in keys]
    return turn(keys, await retry.call(lambda: weigh(conversations)))


async def process(
    stage: Stage,
    batch: Sequence[ConsumerRecord],
    log: EventLog,
    retry: RetryPolicy,
    done: Done,
    skips: Callable[[ConsumerRecord], bool] = lambda _: False,
) -> None:
    """Call ``done`` for each part of the batch, in order, once its records may be acknowledged.

    Then their effect is in, and their completions or their dead letters are durable. ``skips`` is True for records that
    an operator lets the stage step over: they become dead letters without being handled. Raises RetriesExhausted,
    PartitionRevoked and TurnEnded; then no other record may be acknowledged.
    """
    placed = [at_origin(stage.name, consumed) for consumed in batch]
    read = {id(consumed): was for consumed, was in zip(placed, batch, strict=True)}

    def is_skipped(consumed: ConsumerRecord) -> bool:
        return skips(read[id(consumed)])

    waiting = deque(_parts(stage, placed))
    while waiting:
        part = waiting.popleft()
        if skipped := list(filter(is_skipped, part)):
            done([read[id(consumed)] for consumed in skipped], await _step_over(stage, skipped, log, retry))
            part = [consumed for consumed in part if not is_skipped(consumed)]
        if not part:
            continue
        try:
            result = await _process(stage, part, log, replace(retry, still_wanted=partial(_none, is_skipped, part)))
        except NotWanted:
            waiting.appendleft(part)
        except _TooMany as exc:
            _log.debug("batch_split", stage=stage.name, records=len(part), reason=str(exc))
            size = -(-len(part) // _SPLIT)
            waiting.extendleft(part[begin : begin + size] for begin in reversed(range(0, len(part), size)))
        else:
            done([read[id(consumed)] for consumed in part], result)


def _none(is_skipped: Callable[[ConsumerRecord], bool], part: Sequence[ConsumerRecord]) -> bool:
    return not any(map(is_skipped, part))


async def _step_over(stage: Stage, skipped: Sequence[ConsumerRecord], log: EventLog, retry: RetryPolicy) -> Result:
    """Write dead letters of records that an operator lets the stage step over."""
    result = Result()
    for consumed in skipped:
        result.write_letter(stage, consumed, Failure(SKIPPED), attempts=0)
    await retry.call(partial(log.append, result.letters), 1.4 * retry.attempt_s)
    return result


def _parts(stage: Stage, batch: Sequence[ConsumerRecord]) -> Iterator[Sequence[ConsumerRecord]]:
    """Yield the batch in parts, where order matters: a part ends with the last record of a round of a replay."""
    begin = 0
    for number, consumed in enumerate(batch if stage.parking is not None else (), 1):
        if consumed.ends_round:
            yield batch[begin:number]
            begin = number
    if begin < len(batch):
        yield batch[begin:]


async def _process(stage: Stage, batch: Sequence[ConsumerRecord], log: EventLog, retry: RetryPolicy) -> Result:
    result, items = Result(), list[Item]()
    for consumed in batch:
        if consumed.ends_round:
            continue
        try:
            items.append((consumed, _decode(stage, consumed)))
        except Malformed as exc:
            result.write_letter(stage, consumed, Failure(str(exc)), attempts=1)
    free = await _not_parked(stage, items, retry, result)
    result.told = await _told(stage, free, retry)
    await _handle(stage, free, log, retry, result)
    await _complete(stage, log, retry, result)
    await _append(result.letters, log, retry)
    await _keep_order(stage, batch, retry, result)
    log_failures(stage, result)
    return result


async def _complete(stage: Stage, log: EventLog, retry: RetryPolicy, result: Result) -> None:
    """Write the completions so far, but those that the log has; a crash from now on costs none of them."""
    publication, events = stage.publication, list[AnyEvent](result.events)
    missing: Missing | None = None
    if publication is not None and events:
        missing = await retry.call(partial(publication.missing, events))
        events = list(missing.completions)
    producer = f"millrace/{stage.name}"
    for begin in range(0, len(events), _APPEND_MAX):
        some = events[begin : begin + _APPEND_MAX]
        made = [record(event, producer=producer, is_replay=event.event_id in result.told) for event in some]
        await _append(made, log, retry)
    if publication is not None and missing is not None and events:
        await retry.call(partial(publication.done, missing))
    result.events.clear()


async def _append(records: Sequence[Record], log: EventLog, retry: RetryPolicy) -> None:
    for begin in range(0, len(records), _APPEND_MAX):
        part = records[begin : begin + _APPEND_MAX]
        # The log has a deadline of its own, at which it rebuilds its producer; ours must not cut that off.
        await retry.call(partial(log.append, part), 1.4 * retry.attempt_s)
        retry.progressed()


async def _told(stage: Stage, items: Sequence[Item], retry: RetryPolicy) -> Collection[str]:
    """Return the ids of completions that people were told of before; only records that are replayed can have any."""
    told, again = stage.told, [event for consumed, event in items if consumed.is_replay]
    return await retry.call(lambda: told(again)) if told is not None and again else ()


def _decode(stage: Stage, consumed: ConsumerRecord) -> AnyEvent:
    """Return the event of a record. Raises Malformed, also for one of a topic that the stage does not read."""
    if consumed.topic not in stage.topics:
        raise Malformed(f"{stage.name} does not read the topic of this record")
    return decode(consumed.topic, consumed.key, consumed.value)


async def _not_parked(stage: Stage, items: Sequence[Item], retry: RetryPolicy, result: Result) -> list[Item]:
    """Return what may be handled: of a parked conversation only replays, and only while none of them failed again."""
    parking = stage.parking
    if parking is None or not items:
        return list(items)
    conversations = sorted({key_of(event) for _, event in items if is_uuid(key_of(event))})
    parked = await retry.call(lambda: parking.parked(conversations))
    free = []
    for item in items:
        place = parked.get(key_of(item[1]))
        replay = item[0].replay
        if place is None or (replay is not None and replay.failures == place.failures):
            free.append(item)
        else:
            result.set_aside(stage, item, BEHIND, attempts=0)
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
    replay = batch[-1].replay
    if replay is not None and replay.letters is not None:
        conversation_id, letters = (batch[-1].key or b"").decode(errors="replace"), replay.letters
        if is_uuid(conversation_id):
            await retry.call(lambda: parking.unpark(conversation_id, letters))
            _log.debug("conversation_replayed", stage=stage.name, conversation_id=conversation_id, letters=letters)


async def _handle(
    stage: Stage, items: Sequence[Item], log: EventLog, retry: RetryPolicy, result: Result, *, attempt: int = 1
) -> None:
    items = _not_failed(stage, items, result)
    while items:
        events = [event for _, event in items]
        try:
            # One record is retried for long. Of several it may be that they are too many for the time that they have.
            outcome = await (retry.call if len(items) == 1 else retry.attempt)(partial(stage.handle, events))
            items = result.take(stage, items, outcome)
        except (RetriesExhausted, PartitionRevoked, NotWanted, TurnEnded):
            raise
        except Unavailable as exc:
            raise _TooMany(str(exc)) from exc
        except Exception as exc:  # a bug, or one record that can never work: find it, spare the others
            if len(items) == 1 and attempt >= _ATTEMPTS:
                result.set_aside(stage, items[0], failure_of(exc), attempts=attempt)
                return
            _log.debug("batch_apart", stage=stage.name, records=len(items), reason=type(exc).__name__)
            for part in _apart(items):
                await _handle(stage, part, log, retry, result, attempt=attempt + 1)
            return
        if items:
            await _complete(stage, log, retry, result)


def _apart(items: Sequence[Item]) -> Sequence[Sequence[Item]]:
    """Return the items of each conversation, in order; of a single conversation, each item alone.

    So every other conversation of a batch pays one transaction more, however many records of others can never work.
    """
    conversations: dict[str, list[Item]] = {}
    for item in items:
        conversations.setdefault(key_of(item[1]), []).append(item)
    return list(conversations.values()) if len(conversations) > 1 else [[item] for item in items]


def _not_failed(stage: Stage, items: Sequence[Item], result: Result) -> Sequence[Item]:
    """Return the items without those behind a failure in their conversation, where order matters."""
    failed = {id_ for id_, aside in result.aside.items() if aside.failures}
    for item in items:
        if key_of(item[1]) in failed:
            result.set_aside(stage, item, BEHIND, attempts=0)
    return [item for item in items if key_of(item[1]) not in failed]
