"""Media: a file gets its true type and a thumbnail, and loses its metadata, as soon as its upload is complete.

A message that is sent later carries what was found. Each of its attachments is announced in its conversation, too,
since a message may be sent before its files were inspected.

reads   media.uploaded, message.created
writes  media.processed
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

import structlog

from domain.media import (
    CLEAN,
    ORIGINAL,
    THUMBNAIL,
    UNKNOWN_TYPE,
    Blobs,
    Media,
    MediaFiles,
    MediaInfo,
    ProbeInterrupted,
    blob,
    inspected,
)
from domain.messages import Messages
from schemas.events import AnyEvent, MediaProcessed, MediaUploaded, MessageCreated
from streams.lanes import BatchPolicy
from streams.retry import TurnEnded
from streams.stage import Outcome, Refused, Stage
from streams.stored_messages import WithStoredMessages

_log = structlog.get_logger()

Probe: TypeAlias = Callable[[bytes, str], Awaitable[MediaInfo]]
"""Probe of bytes under a file's name. It never fails on bad files: ``error`` says what is wrong with them.

Raises ProbeInterrupted when it comes to no verdict.
"""

TURN_S = 4.0
"""Time of a turn, below a stage's attempt. A probe that takes longer goes on; its message waits for another turn."""
DECODERS = 2
"""Probes at the same time; each may take the memory that the sandbox allows, 1 GiB."""
_PROBES_MAX = 3
_NO_UPLOAD = "no such upload"
_NO_VERDICT = "the file could not be inspected: the machine was too busy, or ended the decoder; replay it later"


@dataclass(frozen=True, slots=True)
class HandleMedia:
    """Rule of the stage: the bytes of a file are probed once, however often and wherever they come.

    A record whose probes take longer than a turn raises TurnEnded; they go on meanwhile, and their results are kept.
    So a message gets on by at least one attachment in a few turns, whatever the attachments cost.
    """

    files: MediaFiles
    blobs: Blobs
    probe: Probe
    decoders: int = DECODERS
    turn_s: float = TURN_S
    _probes: dict[str, asyncio.Task[MediaInfo]] = field(default_factory=dict)
    """Probes that go on, by the hash of their bytes."""
    _interrupted: Counter[str] = field(default_factory=Counter)
    _slots: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_slots", asyncio.Semaphore(self.decoders))

    async def __call__(self, events: Sequence[AnyEvent]) -> Outcome:
        end = asyncio.get_running_loop().time() + self.turn_s
        outcome: list[AnyEvent | Refused] = []
        for event in events:
            if isinstance(event, MessageCreated):
                outcome += await self._message(event, end)
            elif isinstance(event, MediaUploaded):
                outcome += await self._upload(event, end)
        return outcome

    async def told(self, events: Sequence[AnyEvent]) -> Collection[str]:
        """Return the ids of media.processed of these messages that were made before."""
        return await self.files.told(
            [event.message.message_id for event in events if isinstance(event, MessageCreated)]
        )

    async def _upload(self, event: MediaUploaded, end: float) -> Sequence[Refused]:
        """Inspect an upload; nobody is told, for a message that names it announces it."""
        media = await self.files.get(event.media_id)
        if media is None or media.owner_id != event.owner_id:
            return [Refused(event, _NO_UPLOAD, keep=media is not None)]  # the upload may have been collected
        return [Refused(event, _NO_VERDICT)] if await self._inspected(media, end) is None else []

    async def _message(self, created: MessageCreated, end: float) -> Sequence[AnyEvent | Refused]:
        outcome: list[AnyEvent | Refused] = []
        for file in created.message.attachments:
            media = await self.files.get(file.media_id)
            if media is None:
                continue  # the store has the message, so it had the upload
            media = await self._inspected(media, end)
            if media is None:
                return [*outcome, Refused(created, _NO_VERDICT)]
            outcome.append(await self.files.ready(created.message, media))
        return outcome

    async def _inspected(self, media: Media, end: float) -> Media | None:
        """Return the upload with what its bytes are; None when that cannot be found out.

        Raises TurnEnded, Unavailable.
        """
        if media.media_type is not None:
            return media
        task = self._probes.get(media.sha256) or self._begin(media)
        done, _ = await asyncio.wait({task}, timeout=max(0.0, end - asyncio.get_running_loop().time()))
        if not done:
            raise TurnEnded("the probe goes on")
        try:
            return inspected(media, task.result())
        except ProbeInterrupted as exc:
            self._interrupted[media.sha256] += 1
            _log.debug("probe_interrupted", media_id=media.media_id, reason=str(exc))
            if self._interrupted[media.sha256] < _PROBES_MAX:
                raise TurnEnded(str(exc)) from exc
            del self._interrupted[media.sha256]
            return None

    def _begin(self, media: Media) -> asyncio.Task[MediaInfo]:
        task = asyncio.create_task(self._probe(media))
        self._probes[media.sha256] = task
        task.add_done_callback(partial(self._ended, media.sha256))
        return task

    def _ended(self, sha256: str, task: asyncio.Task[MediaInfo]) -> None:
        del self._probes[sha256]
        if not task.cancelled():
            task.exception()  # nobody may be waiting for it just now; whoever is gets it too

    async def _probe(self, media: Media) -> MediaInfo:
        async with self._slots:
            content = await self.blobs.get(blob(media.sha256, ORIGINAL))
            if content is None:  # not saved: another upload may bring these bytes again
                return MediaInfo(media_type=UNKNOWN_TYPE, error="the file is gone")
            info = await self.probe(content, media.file_name)
            await self.files.save_probe(media.sha256, info, partial(self._keep, media.sha256, info))
            self._interrupted.pop(media.sha256, None)
            return info

    async def _keep(self, sha256: str, info: MediaInfo) -> None:
        for part, made in ((CLEAN, info.clean), (THUMBNAIL, info.thumbnail)):
            if made is not None:
                await self.blobs.put(blob(sha256, part), made)


def owner(event: AnyEvent) -> str | None:
    """Return whose turn a record takes: the uploader's or the sender's, if there is anything to inspect."""
    if isinstance(event, MediaUploaded):
        return event.owner_id
    if isinstance(event, MessageCreated) and event.message.attachments:
        return event.message.sender_id
    return None


def create(files: MediaFiles, blobs: Blobs, probe: Probe, messages: Messages, decoders: int = DECODERS) -> Stage:
    """Return the stage ``media``."""
    rule = HandleMedia(files, blobs, probe, decoders)
    stored = WithStoredMessages(messages, rule)
    # More lanes than decoders: a lane waits for a probe a turn long, and files that are no pictures need none.
    policy = BatchPolicy(lanes=decoders + 6, batch=50, gather_s=0.2, most=10_000)
    return Stage(
        "media",
        (MediaUploaded, MessageCreated),
        (MediaProcessed,),
        stored,
        policy=policy,
        owner_of=owner,
        told=rule.told,
    )
