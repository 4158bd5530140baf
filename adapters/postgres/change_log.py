"""Only writer of seqs, the change log and the outbox.

Lock the conversations, append entries with the seqs that follow their heads, commit: the lock is held until then, so
the order of commits is the order of seqs.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson
import psycopg
from psycopg.rows import TupleRow

from adapters.postgres.pool import Connection
from adapters.postgres.statements import load
from domain.changes import Entry, OutboxEntry
from schemas.codec import encode, key_of
from schemas.events import AnyEvent, MessageCreated
from schemas.ids import outbox_shard

_SQL = load("change_log")


async def start_lock(
    conn: Connection, conversation_ids: Sequence[str], *, wait: bool = True
) -> psycopg.AsyncCursor[TupleRow]:
    """Lock these conversations for the transaction; the cursor gives (id, head, messages) of each that is locked.

    Without ``wait`` a conversation that another transaction holds is passed over. In a pipeline the rows arrive with
    the answer to what is sent next.
    """
    distinct = {"conversations": sorted(set(conversation_ids))}
    return await conn.execute(_SQL["lock_or_wait" if wait else "lock_or_pass"], distinct)


async def lock(conn: Connection, conversation_id: str) -> int | None:
    """Lock a conversation for the transaction and return its head; None when it does not exist."""
    row = await (await start_lock(conn, [conversation_id])).fetchone()
    return None if row is None else row[1]


async def append(conn: Connection, entries: Sequence[Entry], at: datetime) -> None:
    """Append entries of locked conversations: raise their heads, log the changes, owe their events to Kafka.

    The seqs of each conversation are dense and ascend from its head.
    """
    changes, events = [entry.change for entry in entries], [entry.event for entry in entries]
    await conn.execute(
        _SQL["append"],
        {
            "at": at,
            "conversations": [change.conversation_id for change in changes],
            "seqs": [change.seq for change in changes],
            "kinds": [change.kind for change in changes],
            "messages": [entry.message_id for entry in entries],
            "details": [None if entry.data is None else orjson.dumps(entry.data).decode() for entry in entries],
            "activity": [entry.is_activity for entry in entries],
            "shards": [outbox_shard(change.conversation_id) for change in changes],
            "topics": [None if event is None else event.TOPIC for event in events],
            "values": [None if event is None else _value(event) for event in events],
            "events": [None if event is None else event.event_id for event in events],
        },
    )


async def owe(conn: Connection, entries: Sequence[OutboxEntry]) -> None:
    """Owe events to Kafka for the first time; the relay publishes those of a conversation in the order of seqs."""
    if entries:
        await conn.execute(_SQL["insert_outbox"], _columns(entries))


async def owe_again(conn: Connection, entries: Sequence[OutboxEntry]) -> None:
    """Owe events that may have been owed before, published or not."""
    await conn.execute(_SQL["owe_again"], {**_columns(entries), "parts": [entry.part for entry in entries]})


async def owe_instead(conn: Connection, entry: OutboxEntry, before: str | None) -> bool:
    """Owe an event in place of one with the event id ``before``, published or not, or where there is none.

    Return False, and change nothing, when another stands there by now.
    """
    place = {**_columns([entry]), "parts": [entry.part], "before": before}
    return (await conn.execute(_SQL["owe_instead"], place)).rowcount == 1


def _columns(entries: Sequence[OutboxEntry]) -> dict[str, Any]:
    events = [entry.event for entry in entries]
    keys = [key_of(event) for event in events]
    return {
        "conversations": keys,
        "seqs": [entry.seq for entry in entries],
        "shards": [outbox_shard(key) for key in keys],
        "topics": [event.TOPIC for event in events],
        "values": [encode(event) for event in events],
        "ids": [event.event_id for event in events],
    }


def _value(event: AnyEvent) -> bytes | None:
    """Return what the outbox holds of an entry's event: nothing of a message's, which is made from its row."""
    return None if isinstance(event, MessageCreated) else encode(event)
