"""Media: an attachment gets its true type, a thumbnail, and loses its metadata.

reads   message.created
writes  media.processed
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from domain.media import Blobs, Media, MediaFiles, MediaInfo
from domain.messages import Messages
from schemas.events import AnyEvent, MediaProcessed, MessageCreated
from schemas.messages import Message
from streams.lanes import BatchPolicy
from streams.stage import Stage
from streams.stored_messages import WithStoredMessages

Probe: TypeAlias = Callable[[bytes, str], Awaitable[MediaInfo]]
"""Probe of bytes under a file's name. It never fails on bad files: ``error`` says what is wrong with them."""

ORIGINAL, CLEAN, THUMBNAIL = "original", "clean", "thumbnail"


def blob(sha256: str, part: str) -> str:
    """Return the name of a part of a file: by content, so that equal files are one."""
    return f"{sha256}/{part}"


@dataclass(frozen=True, slots=True)
class HandleMedia:
    """Rule of the stage: the bytes of an attachment are probed once, however often and wherever they come."""

    files: MediaFiles
    blobs: Blobs
    probe: Probe

    async def __call__(self, events: Sequence[AnyEvent]) -> Sequence[AnyEvent]:
        return [
            event
            for created in events
            if isinstance(created, MessageCreated)
            for media_id in created.message.attachments
            for event in await self._attachment(created.message, media_id)
        ]

    async def told(self, events: Sequence[AnyEvent]) -> Collection[str]:
        """Return the ids of media.processed of these messages that were made before."""
        return await self.files.told(
            [event.message.message_id for event in events if isinstance(event, MessageCreated)]
        )

    async def _attachment(self, message: Message, media_id: str) -> Sequence[AnyEvent]:
        media = await self.files.get(media_id)
        if media is None:
            return []  # ingest checks that it exists; it was deleted since
        return [await self.files.ready(message, media, await self._probe(media))]

    async def _probe(self, media: Media) -> MediaInfo:
        known = await self.files.find_probe(media.sha256)
        if known is not None:
            return known
        content = await self.blobs.get(blob(media.sha256, ORIGINAL))
        if content is None:
            return MediaInfo(media_type="application/octet-stream", error="the file is gone")
        info = await self.probe(content, media.file_name)
        for part, made in ((CLEAN, info.clean), (THUMBNAIL, info.thumbnail)):
            if made is not None:
                await self.blobs.put(blob(media.sha256, part), made)
        await self.files.save_probe(media.sha256, info)
        return info


def create(files: MediaFiles, blobs: Blobs, probe: Probe, messages: Messages) -> Stage:
    """Return the stage ``media``."""
    # Pictures are dear: few at a time. A batch that takes too long is tried in parts, and what was seen is remembered.
    policy = BatchPolicy(lanes=4, batch=10, gather_s=0.2)
    rule = HandleMedia(files, blobs, probe)
    stored = WithStoredMessages(messages, rule)
    return Stage("media", (MessageCreated,), (MediaProcessed,), stored, policy=policy, told=rule.told)
