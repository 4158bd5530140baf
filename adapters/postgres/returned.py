"""Rows of entries that come back from the log, in the transaction that holds their conversation."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

import msgspec

from adapters.postgres import change_log
from adapters.postgres.pool import Connection
from adapters.postgres.statements import load
from domain.changes import Entry, OutboxEntry, lost_entry, returned_entry
from domain.drafts import last_written
from domain.quotas import charge
from domain.recovery import Entered, Returned
from schemas.clock import now
from schemas.events import ConversationChanged, MediaProcessed, MediaUploaded, MessageCreated
from schemas.ids import is_uuid
from schemas.messages import Attachment, ChangeKind, Message

_SQL = load("recovery")
_CONVERSATIONS, _INVITATIONS, _MEDIA = load("conversations"), load("invitations"), load("media")
_UNNAMED = "file"
_AT_ONCE = 1_000
"""Messages in one statement."""


async def create(conn: Connection, event: ConversationChanged) -> None:
    """Create the conversation of an event again, with its first members, and owe the event."""
    id_, members = event.conversation_id, list(event.members) or [event.user_id]
    fields = {
        "conversation_id": id_,
        "title": event.title,
        "owner": event.user_id,
        "at": event.at,
        "count": len(members),
        "request_hash": bytes.fromhex(event.request_hash or ""),
    }
    await conn.execute(_SQL["create"], fields)
    place = {"conversation_id": id_, "owner": event.user_id, "members": members}
    await conn.execute(_CONVERSATIONS["create_members"], place)
    invited = {"conversation_id": id_, "by": event.user_id, "users": list(event.invited)}
    await conn.execute(_SQL["create_invitations"], invited)
    await change_log.owe(conn, [OutboxEntry(0, event)])
    await conn.execute(_SQL["mark_replayed"], {"conversation_id": id_, "seqs": [0]})


async def lacking_keys(conn: Connection, events: Sequence[Entered]) -> tuple[list[Entered], set[int]]:
    """Return the events but for messages whose senders have sent them again, and the seqs of these."""
    keyed = [e for e in events if isinstance(e, MessageCreated) and e.client_message_id is not None]
    columns = {"users": [e.message.sender_id for e in keyed], "keys": [e.client_message_id for e in keyed]}
    found = set(await (await conn.execute(_SQL["resent"], columns)).fetchall()) if keyed else set()
    resent = {id(e): e.seq for e in keyed if (e.message.sender_id, e.client_message_id) in found}
    return [event for event in events if id(event) not in resent], set(resent.values())


async def put_uploads(conn: Connection, events: Sequence[Entered] | None) -> int:
    """Store the uploads that were kept and that these events name, or all that were kept; return their number."""
    named: dict[str, Attachment | None] = {}
    for event in events or ():
        if isinstance(event, MessageCreated):
            named.update({file.media_id: file for file in event.message.attachments})
        elif isinstance(event, MediaProcessed):
            named.setdefault(event.media_id, None)
    if events is not None and not named:
        return 0
    statement = _SQL["uploads"] if events is None else _SQL["uploads_of"]
    params = {"uploads": MediaUploaded.TOPIC, "ids": list(named)}
    stored = 0
    for (value,) in await (await conn.execute(statement, params)).fetchall():
        upload = msgspec.json.decode(value, type=MediaUploaded)
        file = named.get(upload.media_id)
        row = {
            "media_id": upload.media_id,
            "owner_id": upload.owner_id,
            "file_name": file.name if file is not None else _UNNAMED,
            "declared_type": file.type if file is not None else "",
            "size": upload.size,
            "sha256": upload.sha256,
            "charge": charge(upload.size),
        }
        added = (await conn.execute(_MEDIA["add"], row)).rowcount
        stored += added
        if added:
            await change_log.owe_again(conn, [OutboxEntry(0, upload)])
    return stored


async def put_entries(conn: Connection, conversation_id: str, entries: Sequence[Returned], messages: int) -> None:
    """Append entries behind the head, with their rows. ``messages``: number of messages of the conversation so far."""
    for is_message, run in groupby(entries, lambda entry: isinstance(entry.event, MessageCreated)):
        some = list(run)
        if is_message:
            for start in range(0, len(some), _AT_ONCE):
                part = some[start : start + _AT_ONCE]
                events = [entry.event for entry in part if isinstance(entry.event, MessageCreated)]
                await _put_messages(conn, conversation_id, events, messages)
                messages += len(part)
                await _append(conn, conversation_id, part)
            continue
        for entry in some:
            if isinstance(entry.event, ConversationChanged):
                await _change_members(conn, entry.event)
            elif isinstance(entry.event, MediaProcessed):
                await _put_place(conn, entry.event)
            await _append(conn, conversation_id, [entry])
    await conn.execute(_SQL["count_members"], {"conversation_id": conversation_id})
    seqs = [entry.seq for entry in entries]
    await conn.execute(_SQL["mark_replayed"], {"conversation_id": conversation_id, "seqs": seqs})


async def _append(conn: Connection, conversation_id: str, entries: Sequence[Returned]) -> None:
    await change_log.append(conn, [_entry(conversation_id, entry) for entry in entries], _time(entries[-1]))


def _entry(conversation_id: str, entry: Returned) -> Entry:
    if entry.event is None:
        return lost_entry(conversation_id, entry.seq, now())
    return returned_entry(entry.event)


def _time(entry: Returned) -> datetime:
    match entry.event:
        case None:
            return datetime.now(UTC)
        case MessageCreated(message=message):
            return datetime.fromisoformat(message.created_at)
        case event:
            return datetime.fromisoformat(event.at)


async def _put_messages(conn: Connection, conversation_id: str, events: Sequence[MessageCreated], before: int) -> None:
    messages = [event.message for event in events]
    wrote = last_written(messages, {conversation_id: before})
    await conn.execute(
        _SQL["insert_messages"],
        {
            "conversation_id": conversation_id,
            "ids": [m.message_id for m in messages],
            "seqs": [m.seq for m in messages],
            "senders": [m.sender_id for m in messages],
            "types": [m.type for m in messages],
            "contents": [m.content for m in messages],
            "attachments": [_json(m) for m in messages],
            "replies": [m.reply_to for m in messages],
            "keys": [event.client_message_id for event in events],
            "hashes": [bytes.fromhex(event.body_hash or "") for event in events],
            "times": [m.created_at for m in messages],
            "writers": [user for _, user in wrote],
            "last_seqs": [seq for seq, _ in wrote.values()],
            "last_nths": [nth for _, nth in wrote.values()],
        },
    )
    named = [(file.media_id, m) for m in messages for file in m.attachments if is_uuid(file.media_id)]
    columns: dict[str, Any] = {
        "conversation_id": conversation_id,
        "media": [id_ for id_, _ in named],
        "messages": [m.message_id for _, m in named],
        "seqs": [m.seq for _, m in named],
    }
    await conn.execute(_SQL["insert_attachments"], columns)


def _json(message: Message) -> str | None:
    return msgspec.json.encode(message.attachments).decode() if message.attachments else None


async def _put_place(conn: Connection, event: MediaProcessed) -> None:
    row = {
        "message_id": event.message_id,
        "media_id": event.media_id,
        "conversation_id": event.conversation_id,
        "seq": event.seq,
        "event": msgspec.json.encode(event).decode(),
    }
    await conn.execute(_SQL["insert_place"], row)


async def _change_members(conn: Connection, event: ConversationChanged) -> None:
    """Do what a change of members or invitations did."""
    place = {"conversation_id": event.conversation_id, "user_id": event.user_id}
    match event.change:
        case ChangeKind.MEMBER_ADDED:
            await conn.execute(
                _CONVERSATIONS["add_member"], {**place, "seq": event.seq, "hidden_up_to": event.hidden_up_to}
            )
            await conn.execute(_CONVERSATIONS["forget_former"], place)
            await conn.execute(_INVITATIONS["end"], place)
        case ChangeKind.MEMBER_REMOVED:
            await conn.execute(_CONVERSATIONS["remove_member"], place)
            await conn.execute(_CONVERSATIONS["remember_former"], {**place, "by": event.by})
        case ChangeKind.MEMBER_INVITED:
            users = {"conversation_id": event.conversation_id, "by": event.by, "users": [event.user_id]}
            await conn.execute(_INVITATIONS["insert"], users)
        case ChangeKind.INVITATION_ENDED:
            inviter = await (await conn.execute(_INVITATIONS["end"], place)).fetchone()
            if inviter is not None and event.by == event.user_id:
                await conn.execute(_INVITATIONS["note_declined"], {"user_id": event.user_id, "by": inviter[0]})
