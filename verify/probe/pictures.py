"""Rooms of small pictures."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx2
import orjson

from verify.attacks.media import picture
from verify.probe.doors import FAILED, Doors, pauses
from verify.probe.room import ProbeRoom
from verify.probe.track import Track

_TUS = {"tus-resumable": "1.0.0"}
_SIDE = 16
_GONE = 404


@dataclass(slots=True, kw_only=True)
class PictureRoom(ProbeRoom):
    """A conversation of a receiver and some senders, who take turns: an upload of which a lost answer has told nobody
    stays open for an hour, and a user may have few of these."""

    senders: Sequence[str]
    track: Track[str]
    """By the id of a file."""
    every_s: float = 3.0
    most: int = 8

    def on_content(self, seq: int, raw: bytes) -> None:
        """Note that a picture was inspected."""
        frame = orjson.loads(raw)
        if frame["type"] == "media_ready":
            self.track.reach(frame["mediaId"], time.monotonic())

    async def send(self, doors: Doors, number: int) -> None:
        """Upload the room's next picture and send it, and repeat both until they are accepted."""
        measurement = self.track.begin(time.monotonic())
        content = picture(_SIDE, _SIDE, secrets.token_bytes(3))  # of a new colour: the same bytes are inspected once
        turn = number
        async for _ in pauses():
            sender, turn = self.senders[turn % len(self.senders)], turn + 1
            if (media_id := await _upload(doors, sender, content)) is not None:
                self.track.expect(media_id, measurement)
                await self.post(doors, sender, number, attachments=[media_id])
                return


async def _upload(doors: Doors, user: str, content: bytes) -> str | None:
    """Upload a file; return its id, or None when that must be begun again."""
    headers = {**doors.bearer(user), **_TUS}
    made = await _call(doors, "POST", "/media", {**headers, "upload-length": str(len(content))})
    if made is None or not made.is_success:
        return None
    path, offset = made.headers["location"], 0
    async for _ in pauses():
        part = {**headers, "upload-offset": str(offset), "content-type": "application/offset+octet-stream"}
        answer = await _call(doors, "PATCH", path, part, content[offset:])
        if answer is None or not answer.is_success:
            answer = await _call(doors, "HEAD", path, headers)
        if answer is not None and answer.status_code == _GONE:
            return None
        if answer is not None and answer.is_success:
            offset = int(answer.headers["upload-offset"])
        if offset == len(content):
            return str(path.rpartition("/")[2])
    raise AssertionError("pauses have no end")


async def _call(
    doors: Doors, method: str, path: str, headers: dict[str, str], content: bytes = b""
) -> httpx2.Response | None:
    """Return the answer to one try; None when there is none."""
    try:
        return await doors.client().request(method, path, headers=headers, content=content)
    except FAILED:
        return None
