"""Facts behind records, read from PostgreSQL: one query for each kind, all in one round trip."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from adapters.postgres import rows
from adapters.postgres.pool import Connection, Pool, connection
from adapters.postgres.statements import load
from domain.changes import created_event
from domain.facts import Found, Member, Place, Progress, Wanted
from schemas.clock import wire_time
from schemas.events import ConversationChanged, NotificationSent
from schemas.fields import MAX_SEQ
from schemas.ids import USER_ID, UUID_PATTERN
from schemas.messages import Change, Status

_SQL = load("facts")
_UUID = re.compile(UUID_PATTERN)
_Row: TypeAlias = tuple[Any, ...]
_Query: TypeAlias = tuple[str, Mapping[str, Any], Callable[[_Row], tuple[Any, Any]]]
"""(kind, parameters, row → (key, fact))."""


@dataclass(frozen=True, slots=True)
class PostgresFacts:
    """Facts on the primary. Keys that no row can have are not asked for, so that values never fail a query."""

    pool: Pool

    async def find(self, wanted: Wanted) -> Found:
        queries = list(_queries(wanted))
        if not queries:
            return Found()
        async with connection(self.pool) as conn:
            return Found(**await _run(conn, queries))


def _queries(wanted: Wanted) -> Iterable[_Query]:
    if places := [place for place in wanted.entries if _UUID.match(place[0]) and 0 < place[1] <= MAX_SEQ]:
        yield "entries", {"conversations": [id_ for id_, _ in places], "seqs": [seq for _, seq in places]}, _entry
    if ids := _uuids(wanted.creations):
        yield "creations", {"ids": ids}, _creation
    if pairs := [pair for pair in wanted.members if _UUID.match(pair[0]) and USER_ID.match(pair[1])]:
        yield "members", {"conversations": [id_ for id_, _ in pairs], "users": [user for _, user in pairs]}, _member
    if ids := _uuids(wanted.messages):
        yield "messages", {"ids": ids}, lambda row: (row[0], (row[1], Status(row[2])))
    if ids := _uuids(wanted.notifications):
        yield "notifications", {"ids": ids}, _notification


async def _run(conn: Connection, queries: Sequence[_Query]) -> dict[str, Any]:
    if len(queries) == 1:  # the usual case: a pipeline costs more than it saves
        [(kind, params, convert)] = queries
        return {kind: dict(map(convert, await (await conn.execute(_SQL[kind], params)).fetchall()))}
    async with conn.pipeline():
        cursors = [(kind, await conn.execute(_SQL[kind], params), convert) for kind, params, convert in queries]
        return {kind: dict(map(convert, await cursor.fetchall())) for kind, cursor, convert in cursors}


def _uuids(ids: Iterable[str]) -> list[str]:
    return [id_ for id_ in ids if _UUID.match(id_)]


def _entry(row: _Row) -> tuple[Place, Change]:
    change = rows.change(row)
    return (change.conversation_id, change.seq), change


def _creation(row: _Row) -> tuple[str, ConversationChanged]:
    id_, title, owner, at, members, invited = row
    return id_, created_event(id_, title, owner, tuple(members), wire_time(at), tuple(invited))


def _member(row: _Row) -> tuple[Member, Progress]:
    conversation, user, delivered, read, *times = row
    delivered_at, read_at = (at and wire_time(at) for at in times)
    return (conversation, user), Progress(delivered, read, delivered_at, read_at)


def _notification(row: _Row) -> tuple[str, NotificationSent]:
    id_, conversation, message, seq, user, channel, at = row
    fact = NotificationSent(
        notification_id=id_,
        conversation_id=conversation,
        message_id=message,
        seq=seq,
        user_id=user,
        channel=channel,
        at=wire_time(at),
    )
    return id_, fact
