"""Core tables as dictionaries, which the twins share."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec

from adapters.memory.epochs import StoreEpochs
from domain.changes import Entry
from domain.log_position import Position
from domain.media import Media, MediaInfo, inspected
from domain.outbox import Entered
from domain.watermarks import DEVICES_PER_MEMBER
from schemas.events import AnyEvent, MessageCreated
from schemas.messages import Change, Message


@dataclass(slots=True)
class ConversationRow:
    """Row of ``conversations``."""

    conversation_id: str
    title: str | None
    created_by: str
    request_hash: bytes = b""
    last_seq: int = 0
    last_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(slots=True)
class InvitationRow:
    """Row of ``invitations``."""

    invited_by: str
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(slots=True)
class OutboxRow:
    """Row of ``outbox``."""

    seq: int
    event: AnyEvent
    published: bool = False
    replay: bool = False
    again: bool = False


@dataclass(slots=True)
class Tables:
    """Database, empty at first. A message is replaced when its status changes."""

    conversations: dict[str, ConversationRow] = field(default_factory=dict)
    members: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    """Conversation id → user id → role."""
    messages: dict[str, Message] = field(default_factory=dict)
    keys: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    """(sender, client message id) → (message id, body hash)."""
    changes: dict[str, list[Change]] = field(default_factory=lambda: defaultdict(list))
    outbox: dict[tuple[str, int, str], OutboxRow] = field(default_factory=dict)
    """(conversation or upload, seq, part) → row. Receipts stand at seq 0, in the places of their members."""
    noted: Position | None = None
    """Position of the log at the last comparison."""
    epoch: int = 0
    epochs: StoreEpochs = field(default_factory=StoreEpochs)
    receipts: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    """(conversation, user) → (delivered seq, read seq)."""
    device_receipts: dict[tuple[str, str, str], tuple[int, int]] = field(default_factory=dict)
    """(conversation, user, device) → (delivered seq, read seq)."""

    receipt_times: dict[tuple[str, str], tuple[str | None, str | None]] = field(default_factory=dict)
    """(conversation, user) → (delivered at, read at)."""
    uploads: dict[str, Media] = field(default_factory=dict)
    looks: dict[str, MediaInfo] = field(default_factory=dict)
    """Hash → result of an inspection, with its bytes."""
    writers: set[tuple[str, str]] = field(default_factory=set)
    """(conversation, user) of members who have written there."""
    hidden_up_to: dict[tuple[str, str], int] = field(default_factory=dict)
    """(conversation, user) → seq up to which the change log is hidden from a member."""
    joined: dict[tuple[str, str], int] = field(default_factory=dict)
    """(conversation, user) → seq of the joining; none for the first members."""
    seen: dict[tuple[str, str], int] = field(default_factory=dict)
    """(conversation, user) → seq of the joining, or of the member's own last message: nothing before is unread."""
    former_members: dict[tuple[str, str], str] = field(default_factory=dict)
    """(conversation, user) → who ended the membership."""
    invitations: dict[tuple[str, str], InvitationRow] = field(default_factory=dict)
    """(conversation, user) → open invitation."""
    declined: set[tuple[str, str]] = field(default_factory=set)
    """(user, inviter)."""

    def media(self, media_id: str) -> Media | None:
        """Return an upload, with the result of its inspection."""
        media = self.uploads.get(media_id)
        look = None if media is None else self.looks.get(media.sha256)
        return media if media is None or look is None else inspected(media, look)

    def messages_with(self, media_id: str) -> list[Message]:
        """Return the messages that an upload is attached to."""
        return [m for m in self.messages.values() if any(file.media_id == media_id for file in m.attachments)]

    def reached(self, conversation_id: str, user_id: str) -> int:
        """Return the seq up to which a member has everything, or joined after it."""
        pair = (conversation_id, user_id)
        return max(self.receipts.get(pair, (0, 0))[0], self.seen.get(pair, 0))

    def read_up_to(self, conversation_id: str, user_id: str) -> int:
        """Return the seq up to which nothing is unread to a member."""
        pair = (conversation_id, user_id)
        return max(self.receipts.get(pair, (0, 0))[1], self.seen.get(pair, 0))

    def is_readable(self, conversation_id: str, seq: int, user_id: str) -> bool:
        """Return whether the user is a member and may read the entry."""
        is_member = user_id in self.members.get(conversation_id, {})
        return is_member and seq > self.hidden_up_to.get((conversation_id, user_id), 0)

    def append(self, entry: Entry) -> None:
        """Append an entry under the next seq of its conversation, and owe its event to Kafka."""
        change = entry.change
        row = self.conversations[change.conversation_id]
        assert change.seq == row.last_seq + 1
        self.epochs.append(change.conversation_id, row.last_seq)
        row.last_seq = change.seq
        if entry.is_activity:
            row.last_at = datetime.now(UTC)
        self.changes[change.conversation_id].append(change)
        if entry.event is not None:
            self.owe(change.conversation_id, change.seq, entry.event)

    def has(self, event: Entered) -> bool:
        """Return whether the event's entry, or the conversation that it has created, is here."""
        if isinstance(event, MessageCreated):
            return event.message.message_id in self.messages
        if event.kind is None:
            return event.conversation_id in self.conversations
        data = {"userId": event.user_id, "by": event.by, "at": event.at}
        log = self.changes.get(event.conversation_id, ())
        return any(entry.seq == event.seq and entry.kind == event.kind and entry.data == data for entry in log)

    def raise_device(self, key: tuple[str, str, str], raised: tuple[int, int]) -> None:
        """Store a device's watermarks, and forget those of the member's oldest devices."""
        self.device_receipts.pop(key, None)  # the latest is the last
        self.device_receipts[key] = raised
        mine = [each for each in self.device_receipts if each[:2] == key[:2]]
        for oldest in mine[:-DEVICES_PER_MEMBER]:
            del self.device_receipts[oldest]

    def current(self, change: Change) -> Change:
        """Return an entry with its message as it is now: the log holds no content."""
        if change.message is None:
            return change
        return msgspec.structs.replace(change, message=self.messages[change.message.message_id])

    def owe(self, conversation_id: str, seq: int, event: AnyEvent, part: str = "") -> None:
        """Owe an event to Kafka under its conversation, seq and part; the same place again is owed again."""
        self.outbox[conversation_id, seq, part] = OutboxRow(seq, event)
