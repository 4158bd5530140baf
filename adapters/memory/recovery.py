"""Twin of the recovery of a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from adapters.memory.tables import ConversationRow, InvitationRow, Tables
from domain.changes import lost_entry, returned_entry
from domain.log_position import Position
from domain.media import Media
from domain.recovery import Entered, Restored, Returned, count, distinct, plan
from schemas.clock import now
from schemas.codec import key_of
from schemas.events import ConversationChanged, MediaProcessed, MediaUploaded, MessageCreated, ReceiptRecorded
from schemas.messages import ChangeKind


@dataclass(slots=True)
class MemoryRecovery:
    """Recovery on dictionaries."""

    tables: Tables
    kept: list[Entered | MediaUploaded] = field(default_factory=list)
    places: set[tuple[str, str]] = field(default_factory=set)
    """(message, upload) of the announcements of files."""
    receipts: list[ReceiptRecorded] = field(default_factory=list)

    async def begin(self) -> None:
        self.kept.clear()

    async def noted(self) -> tuple[str, Mapping[str, int]] | None:
        noted = self.tables.noted
        return None if noted is None else (noted.cluster_id, noted.ends)

    async def keep(self, events: Sequence[Entered | MediaUploaded]) -> None:
        self.kept += [event for event in events if event not in self.kept and self._lacks(event)]

    def _lacks(self, event: Entered | MediaUploaded) -> bool:
        match event:
            case MediaUploaded():
                return bool(event.sha256) and event.media_id not in self.tables.uploads
            case MediaProcessed():
                return (event.message_id, event.media_id) not in self.places
            case _:
                return not self.tables.has(event)

    async def span(self) -> tuple[datetime, datetime] | None:
        times = [e.message.created_at if isinstance(e, MessageCreated) else e.at for e in self.kept]
        return (datetime.fromisoformat(min(times)), datetime.fromisoformat(max(times))) if times else None

    async def lacking(self) -> Sequence[str]:
        return list(dict.fromkeys(key_of(event) for event in self.kept if not isinstance(event, MediaUploaded)))

    async def put_back(self, conversation_id: str, *, dry_run: bool = False) -> Restored:
        events = distinct(
            [event for event in self.kept if not isinstance(event, MediaUploaded) and key_of(event) == conversation_id]
        )
        row, made = self.tables.conversations.get(conversation_id), 0
        if row is None:
            creation = next((e for e in events if isinstance(e, ConversationChanged) and e.kind is None), None)
            if creation is None:
                return Restored(gone=len(events))
            made, row = 1, ConversationRow(conversation_id, creation.title, creation.user_id)
            if not dry_run:
                self._create(row, creation)
        missing = [event for event in events if event.seq and self._lacks(event)]
        resent = [e for e in missing if isinstance(e, MessageCreated) and self._key(e) in self.tables.keys]
        rest = [event for event in missing if event not in resent]
        planned = plan(row.last_seq, rest, {event.seq for event in resent})
        if planned.entries and not dry_run:
            self._append(conversation_id, planned.entries, planned.shared)
        numbers = replace(count(planned.entries), created=made, moved=planned.moved, lost=planned.lost)
        return replace(numbers, resent=len(resent))

    def _key(self, event: MessageCreated) -> tuple[str, str]:
        return event.message.sender_id, event.client_message_id or ""

    def _create(self, row: ConversationRow, event: ConversationChanged) -> None:
        row.request_hash = bytes.fromhex(event.request_hash or "")
        self.tables.conversations[row.conversation_id] = row
        self.tables.members[row.conversation_id] = {
            user: "owner" if user == event.user_id else "member" for user in event.members
        }
        self.tables.owe(row.conversation_id, 0, event)

    def _append(self, conversation_id: str, entries: Sequence[Returned], shared: int) -> None:
        epochs, head = self.tables.epochs, self.tables.conversations[conversation_id].last_seq
        for entry in entries:
            event = entry.event
            if isinstance(event, MessageCreated):
                self.tables.messages[event.message.message_id] = event.message
                if event.client_message_id is not None:
                    stored = event.message.message_id, bytes.fromhex(event.body_hash or "")
                    self.tables.keys[self._key(event)] = stored
            elif isinstance(event, ConversationChanged):
                self._change_members(event)
            elif isinstance(event, MediaProcessed):
                self.places.add((event.message_id, event.media_id))
            lost = lost_entry(conversation_id, entry.seq, now())
            self.tables.append(lost if event is None else returned_entry(event))
        place = (conversation_id, epochs.ids[epochs.id])
        if epochs.starts.get(place) == head:
            epochs.starts[place] = shared

    def _change_members(self, event: ConversationChanged) -> None:
        members, pair = self.tables.members[event.conversation_id], (event.conversation_id, event.user_id)
        match event.change:
            case ChangeKind.MEMBER_ADDED:
                members.setdefault(event.user_id, "member")
                self.tables.hidden_up_to[pair] = event.hidden_up_to
                self.tables.invitations.pop(pair, None)
            case ChangeKind.MEMBER_REMOVED:
                members.pop(event.user_id, None)
                self.tables.former_members[pair] = event.by
            case ChangeKind.MEMBER_INVITED:
                self.tables.invitations[pair] = InvitationRow(event.by)
            case ChangeKind.INVITATION_ENDED:
                self.tables.invitations.pop(pair, None)

    async def put_back_uploads(self, *, dry_run: bool = False) -> int:
        uploads = [e for e in self.kept if isinstance(e, MediaUploaded) and e.media_id not in self.tables.uploads]
        for event in () if dry_run else uploads:
            self.tables.uploads[event.media_id] = Media(
                media_id=event.media_id,
                owner_id=event.owner_id,
                file_name="file",
                declared_type="",
                size=event.size,
                sha256=event.sha256 or "",
            )
        return len(uploads)

    async def record(self, receipt: ReceiptRecorded) -> bool:
        if receipt.user_id not in self.tables.members.get(receipt.conversation_id, {}):
            return False
        self.receipts.append(receipt)
        return True

    async def republish(self, since: datetime) -> int:
        published = [row for row in self.tables.outbox.values() if row.published]
        for row in published:
            row.published, row.replay, row.again = False, True, True
        return len(published)

    async def note(self, position: Position, epochs: Sequence[str], before: datetime | None) -> None:
        self.tables.noted = position
        known = self.tables.epochs.ids
        number = max(known.values())
        for id_ in epochs:
            known.setdefault(id_, max(number - 1, 1))
