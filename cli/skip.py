"""Step of a consumer group over one record that it cannot get past."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from cli.actions import recorded
from cli.target import Target
from schemas.topics import groups, load
from stack.errors import OperatorError

if TYPE_CHECKING:
    from adapters.kafka.consumer import Received
    from adapters.kafka.record import GroupPosition

_WAIT_S = 60.0
"""Longer than a stage tries a record before its process ends and starts again."""
_POLL_S = 0.5
_SHOWN = 80


def require_reader(group: str, topic: str) -> None:
    """Raise OperatorError unless the group reads the topic."""
    if group not in groups():
        raise OperatorError(f"GROUP must be one of {', '.join(groups())}; {group} is not")
    reads = [each.name for each in load() if group in each.readers]
    if topic not in reads:
        raise OperatorError(f"TOPIC must be one that {group} reads: {', '.join(reads)}; {topic} is not")


async def find_record(target: Target, group: str, topic: str, partition: int, offset: int) -> Received:
    """Return the record that the group would step over. Raises OperatorError when the group is past it, Unavailable."""
    from adapters.kafka.record import position_of, read_record

    position = await position_of(target.kafka, group, topic, partition)
    if problem := _problem(group, position, offset):
        raise OperatorError(f"OFFSET must be of a record that {group} still has to handle: {problem}")
    return await read_record(target.kafka, topic, partition, offset)


def _problem(group: str, position: GroupPosition, offset: int) -> str | None:
    if offset >= position.end:
        return f"the partition ends at {position.end}"
    if offset < position.begin:
        return f"the partition begins at {position.begin}"
    if offset < position.offset:
        return f"{group} has passed {offset} and stands at {position.offset}"
    return None


def shown(record: Received) -> dict[str, Any]:
    """Return what names a record, without its contents."""
    headers = {name: value.decode(errors="replace") for name, value in record.headers}
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "key": _printable((record.key or b"").decode(errors="replace")),
        "id": _printable(headers.get("ce_id", "")),
        "type": _printable(headers.get("ce_type", "")),
        "time": _printable(headers.get("ce_time", "")),
        "bytes": len(record.value or b""),
    }


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:_SHOWN])


async def skip_record(target: Target, group: str, record: Received) -> str:
    """Let the group step over the record; return ``passed`` once it has, ``noted`` while it has not come to it.

    Every process of the group reads the note within seconds, and when it starts. Raises Unavailable.
    """
    from adapters.postgres.pool import open_pool
    from adapters.postgres.skips import PostgresSkips

    scope = {"group": group, **shown(record)}
    async with recorded(target.pg_dsn, "agents skip", scope) as result:
        async with open_pool(target.pg_dsn, size=1) as pool:
            await PostgresSkips(pool).add(group, record)
        result["state"] = "noted"
        if await _passes(target, group, record):
            result["state"] = "passed"
    return str(result["state"])


async def _passes(target: Target, group: str, record: Received) -> bool:
    """Wait until the group has committed a position behind the record; return False when it has no member or is far."""
    from adapters.kafka.admin import groups_lag
    from adapters.kafka.record import position_of

    clock = asyncio.get_running_loop().time
    end, had = clock() + _WAIT_S, -1
    while True:
        position = await position_of(target.kafka, group, record.topic, record.partition)
        if position.offset > record.offset:
            return True
        [state] = await groups_lag(target.kafka, {group: [record.topic]})
        if clock() > end or (not state.members and had < 0):
            return False
        had = position.offset
        await asyncio.sleep(_POLL_S)
