"""Twin of the uploads, of what was found out about them, and of their places."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from adapters.memory.tables import Tables
from domain.changes import media_entry
from domain.media import Media, MediaInfo
from domain.quotas import Usage, charge
from schemas.clock import now
from schemas.events import MediaProcessed
from schemas.messages import Message


@dataclass(slots=True)
class MemoryMedia:
    """Uploads, their probes, and the messages that they are attached to."""

    tables: Tables
    probes: dict[str, MediaInfo] = field(default_factory=dict)
    files: dict[str, tuple[bool, bool]] = field(default_factory=dict)
    """Hash → (has a clean copy, has a thumbnail)."""
    processed: dict[tuple[str, str], MediaProcessed] = field(default_factory=dict)
    used: defaultdict[str, Usage] = field(default_factory=lambda: defaultdict(Usage))

    @property
    def uploads(self) -> dict[str, Media]:
        """Return the uploads by id."""
        return self.tables.uploads

    async def add(self, media: Media) -> None:
        if media.media_id not in self.uploads:
            self.uploads[media.media_id] = media
            used, size = self.used[media.owner_id], charge(media.size)
            self.used[media.owner_id] = Usage(used.stored + size, used.today + size)

    async def usage(self, owner_id: str) -> Usage:
        return self.used[owner_id]

    async def get(self, media_id: str) -> Media | None:
        media = self.uploads.get(media_id)
        if media is None or media.sha256 not in self.probes:
            return media
        clean, thumbnail = self.files[media.sha256]
        places = [event.conversation_id for (_, id_), event in self.processed.items() if id_ == media_id]
        return replace(
            media,
            media_type=self.probes[media.sha256].media_type,
            clean=clean,
            thumbnail=thumbnail,
            conversation_id=next(iter(places), None),
        )

    async def may_read(self, media_id: str, user_id: str) -> bool:
        media = self.uploads.get(media_id)
        messages = [self.tables.messages[message] for (message, id_) in self.processed if id_ == media_id]
        owns = media is not None and media.owner_id == user_id
        return owns or any(self.tables.is_readable(m.conversation_id, m.seq, user_id) for m in messages)

    async def find_probe(self, sha256: str) -> MediaInfo | None:
        return self.probes.get(sha256)

    async def save_probe(self, sha256: str, info: MediaInfo) -> None:
        self.probes.setdefault(sha256, replace(info, clean=None, thumbnail=None))
        self.files.setdefault(sha256, (info.clean is not None, info.thumbnail is not None))

    async def ready(self, message: Message, media: Media, info: MediaInfo) -> MediaProcessed:
        key = (message.message_id, media.media_id)
        if key in self.processed:
            return self.processed[key]
        row = self.tables.conversations[message.conversation_id]
        event = MediaProcessed(
            conversation_id=message.conversation_id,
            seq=row.last_seq + 1,
            message_id=message.message_id,
            media_id=media.media_id,
            media_type=info.media_type,
            width=info.width,
            height=info.height,
            thumbnail=info.error is None and info.width is not None,
            error=info.error,
            at=now(),
        )
        self.tables.append(media_entry(event))
        self.processed[key] = event
        return event

    async def told(self, message_ids: Sequence[str]) -> Collection[str]:
        return {event.event_id for (message_id, _), event in self.processed.items() if message_id in message_ids}
