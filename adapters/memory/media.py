"""Twin of the uploads, of what was found out about them, and of the entries that announce it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from adapters.memory.tables import Tables
from domain.changes import media_entry
from domain.media import Keep, Media, MediaInfo, kept, processed, uploaded
from domain.quotas import Usage, charge
from schemas.events import MediaProcessed
from schemas.messages import Message


@dataclass(slots=True)
class MemoryMedia:
    """Uploads, the results of their inspections, and the messages that they are attached to."""

    tables: Tables
    processed: dict[tuple[str, str], MediaProcessed] = field(default_factory=dict)
    used: defaultdict[str, Usage] = field(default_factory=lambda: defaultdict(Usage))
    complete_at: dict[str, datetime] = field(default_factory=dict)
    """Media id → time of its completion, for those that are not judged yet."""
    unused: set[str] = field(default_factory=set)

    @property
    def uploads(self) -> dict[str, Media]:
        """Return the uploads by id."""
        return self.tables.uploads

    async def add(self, media: Media, keep: Keep = kept) -> None:
        await keep()
        if media.media_id not in self.uploads:
            self.uploads[media.media_id] = media
            self.complete_at[media.media_id] = datetime.now(UTC)
            used, size = self.used[media.owner_id], charge(media.size)
            self.used[media.owner_id] = Usage(used.stored + size, used.today + size)
            self.tables.owe(media.media_id, 0, uploaded(media, datetime.now(UTC)))

    async def usage(self, owner_id: str) -> Usage:
        return self.used[owner_id]

    async def get(self, media_id: str) -> Media | None:
        return self.tables.media(media_id)

    async def may_read(self, media_id: str, user_id: str) -> bool:
        media = self.uploads.get(media_id)
        owns = media is not None and media.owner_id == user_id
        messages = self.tables.messages_with(media_id)
        return owns or any(self.tables.is_readable(m.conversation_id, m.seq, user_id) for m in messages)

    async def save_probe(self, sha256: str, info: MediaInfo, keep: Keep = kept) -> None:
        await keep()
        if self._is_used(sha256):
            self.tables.looks.setdefault(sha256, info)

    async def ready(self, message: Message, media: Media) -> MediaProcessed:
        key = (message.message_id, media.media_id)
        if key in self.processed:
            return self.processed[key]
        row = self.tables.conversations[message.conversation_id]
        event = processed(message, media, row.last_seq + 1, datetime.now(UTC))
        self.tables.append(media_entry(event))
        self.processed[key] = event
        return event

    async def told(self, message_ids: Sequence[str]) -> Collection[str]:
        return {event.event_id for (message_id, _), event in self.processed.items() if message_id in message_ids}

    async def collect(self, older_than_s: float, limit: int) -> Sequence[str]:
        before = datetime.now(UTC) - timedelta(seconds=older_than_s)
        due = [id_ for id_, at in self.complete_at.items() if at < before][:limit]
        for media_id in due:
            del self.complete_at[media_id]
            if not self.tables.messages_with(media_id):
                media = self.uploads.pop(media_id)
                used = self.used[media.owner_id]
                self.used[media.owner_id] = Usage(used.stored - charge(media.size), used.today)
                self.unused.add(media.sha256)
        return sorted(self.unused)[:limit]

    async def discard(self, sha256: str, delete: Keep) -> None:
        if not self._is_used(sha256):
            await delete()
            self.tables.looks.pop(sha256, None)
        self.unused.discard(sha256)

    def _is_used(self, sha256: str) -> bool:
        return any(media.sha256 == sha256 for media in self.uploads.values())
