"""Intake of drafts in PostgreSQL: one transaction for a batch; one round trip for plain drafts, two for all others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, LiteralString

import msgspec
import psycopg

from adapters.postgres import change_log, rows
from adapters.postgres.errors import unavailable_on_outage
from adapters.postgres.pool import Connection, Pool
from adapters.postgres.statements import load
from domain.changes import message_entry
from domain.drafts import Accepted, BatchContext, Draft, Outcome, decide, last_written, new_message
from domain.errors import OutcomeUnknown, Unavailable
from schemas.ids import outbox_shard
from schemas.messages import Attachment, Message

_SQL = load("intake")
_TRIES = 3
_LOST = "the answer to the commit was lost; repeat with the same key"
_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class PostgresIntake:
    """Intake in PostgreSQL. Each conversation of a batch is locked first, so commit order equals seq order.

    Without ``wait`` a conversation that another transaction has locked is passed over, so that it holds up no other.
    """

    pool: Pool

    async def accept_plain(self, drafts: Sequence[Draft]) -> Sequence[Accepted | None]:
        at = _moment()
        wanted = {
            "at": at,
            "drafted": f"{{{','.join({draft.conversation_id for draft in drafts})}}}",
            "drafts": _encoder.encode([_row(nth, draft) for nth, draft in enumerate(drafts, 1)]).decode(),
        }
        with unavailable_on_outage():
            async with self.pool.connection() as conn:
                try:
                    found = await (await conn.execute(_SQL["accept"], wanted)).fetchall()
                except psycopg.errors.UniqueViolation:
                    return [None] * len(drafts)  # another process stores the same key: the other way finds it
                except psycopg.OperationalError as exc:
                    if _may_have_happened(exc):
                        raise OutcomeUnknown(_LOST) from exc
                    raise
        stored: list[Accepted | None] = [None] * len(drafts)
        for nth, seq in found:
            stored[nth - 1] = Accepted(new_message(drafts[nth - 1], seq, (), at))
        return stored

    async def accept(self, drafts: Sequence[Draft], *, wait: bool = False) -> Sequence[Outcome]:
        with unavailable_on_outage():
            async with self.pool.connection() as conn:
                for _ in range(_TRIES):
                    # Another process may store the same key meanwhile, in another conversation: the next try finds it.
                    with suppress(psycopg.errors.UniqueViolation):
                        return await self._accept(conn, drafts, wait=wait)
                raise Unavailable("a concurrent retry of the same message is being stored")

    async def _accept(self, conn: Connection, drafts: Sequence[Draft], *, wait: bool) -> Sequence[Outcome]:
        at, committing = _moment(), False
        try:
            # In a pipeline BEGIN goes out with the reads, and COMMIT with the writes.
            async with conn.pipeline(), conn.transaction():
                context = await _context(conn, drafts, wait=wait)
                outcomes = decide(drafts, context, at)
                new = [
                    (draft, outcome.message)
                    for draft, outcome in zip(drafts, outcomes, strict=True)
                    if isinstance(outcome, Accepted) and not outcome.replayed
                ]
                if new:
                    await _write(conn, new, context.counts, at)
                committing = True
        except psycopg.OperationalError as exc:
            if committing and _may_have_happened(exc):
                raise OutcomeUnknown(_LOST) from exc
            raise
        return outcomes


def _moment() -> datetime:
    """Return the time, as precise as the wire."""
    at = datetime.now(UTC)
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def _row(nth: int, draft: Draft) -> dict[str, Any]:
    return {
        "nth": nth,
        "id": draft.message_id,
        "conversation": draft.conversation_id,
        "sender": draft.sender_id,
        "type": draft.type,
        "content": draft.content,
        "key": draft.client_message_id,
        "hash": draft.body_hash.hex(),
        "shard": outbox_shard(draft.conversation_id),
    }


def _may_have_happened(exc: psycopg.OperationalError) -> bool:
    # No SQLSTATE, a connection error or a shutdown. Any other answer says that it did not.
    return exc.sqlstate is None or exc.sqlstate[:2] in ("08", "57")


async def _context(conn: Connection, drafts: Sequence[Draft], *, wait: bool) -> BatchContext:
    """Lock the conversations, in sorted order, and read the context of the batch, in one round trip."""
    keyed = [(d.sender_id, d.client_message_id) for d in drafts if d.client_message_id]
    replies = [d.reply_to for d in drafts if d.reply_to]
    media = [m for d in drafts for m in d.attachments]
    conversations = [d.conversation_id for d in drafts]
    users = [d.sender_id for d in drafts]
    locked = await change_log.start_lock(conn, conversations, wait=wait)
    members = await conn.execute(_SQL["members"], {"conversations": conversations, "users": users})
    known = await _maybe(conn, _SQL["known"], keyed, users=[u for u, _ in keyed], keys=[k for _, k in keyed])
    replied = await _maybe(conn, _SQL["replied"], replies, ids=replies)
    files = await _maybe(conn, _SQL["media"], media, ids=media)
    rows_of_locked = await locked.fetchall()
    heads: dict[str, int] = {id_: head for id_, head, _ in rows_of_locked}
    membership: set[tuple[str, str]] = set(await members.fetchall())
    return BatchContext(
        heads=heads,
        held={conversation for conversation, _ in membership} - heads.keys(),
        counts={id_: messages for id_, _, messages in rows_of_locked},
        members=membership,
        known=_by_key(await known.fetchall() if known else []),
        replied=dict(await replied.fetchall() if replied else []),
        media={media.media_id: media for media in map(rows.media, await files.fetchall() if files else ())},
    )


async def _maybe(
    conn: Connection, statement: LiteralString, wanted: Sequence[object], **params: object
) -> psycopg.AsyncCursor[Any] | None:
    return await conn.execute(statement, params) if wanted else None


def _by_key(found: Sequence[tuple[Any, ...]]) -> Mapping[tuple[str, str], tuple[Message, bytes]]:
    messages = [(rows.message(row[:10]), row[10], row[11]) for row in found]
    return {(message.sender_id, key): (message, bytes(hash_)) for message, key, hash_ in messages}


async def _write(
    conn: Connection, new: Sequence[tuple[Draft, Message]], counts: Mapping[str, int], at: datetime
) -> None:
    drafts, messages = [d for d, _ in new], [m for _, m in new]
    wrote = last_written(messages, counts)
    await conn.execute(
        _SQL["insert_messages"],
        {
            "ids": [m.message_id for m in messages],
            "conversations": [m.conversation_id for m in messages],
            "seqs": [m.seq for m in messages],
            "senders": [m.sender_id for m in messages],
            "types": [m.type for m in messages],
            "contents": [m.content for m in messages],
            "attachments": [_json(m.attachments) for m in messages],
            "replies": [m.reply_to for m in messages],
            "keys": [d.client_message_id for d in drafts],
            "hashes": [d.body_hash for d in drafts],
            "writers_in": [id_ for id_, _ in wrote],
            "writers": [user for _, user in wrote],
            "last_seqs": [seq for seq, _ in wrote.values()],
            "last_nths": [nth for _, nth in wrote.values()],
            "at": at,
        },
    )
    await _attach(conn, messages)
    entries = [message_entry(message, draft.client_message_id, draft.body_hash) for draft, message in new]
    await change_log.append(conn, entries, at)


def _json(attachments: Sequence[Attachment]) -> str | None:
    return msgspec.json.encode(attachments).decode() if attachments else None


async def _attach(conn: Connection, messages: Sequence[Message]) -> None:
    named = [(file.media_id, message) for message in messages for file in message.attachments]
    if named:
        columns = {
            "media": [media_id for media_id, _ in named],
            "messages": [message.message_id for _, message in named],
            "conversations": [message.conversation_id for _, message in named],
            "seqs": [message.seq for _, message in named],
        }
        await conn.execute(_SQL["insert_attachments"], columns)
