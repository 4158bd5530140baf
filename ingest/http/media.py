"""Files under ``/media``: uploads by tus 1.0, and downloads by those who share a conversation with them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from domain.errors import MillraceError, NotFound, Unavailable, UnsupportedVersion
from domain.identity import Identity
from domain.media import Blobs, Media, Uploads
from domain.quotas import Quota
from ingest.http import tus_headers
from ingest.http.problems import problem_of
from ingest.http.routing import Call, Endpoints
from ingest.http.tus import TusServer
from ingest.orphans import UNATTACHED_S, collect_orphans
from ingest.upload_folder import DiskFloor, UploadFolder
from schemas.routes import BINARY

_log = structlog.get_logger()

ABANDONED_S = 3600.0
"""An upload without a new byte for so long is deleted."""
_TIDY_MAX_S = 300.0


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """Limits of uploads."""

    quota: Quota = field(default_factory=Quota)
    floor: DiskFloor = field(default_factory=DiskFloor)
    abandoned_s: float = ABANDONED_S
    unattached_s: float = UNATTACHED_S


@dataclass(frozen=True, slots=True)
class MediaEndpoints:
    """Calls about media. ``folder`` holds uploads until they are complete."""

    media: Uploads
    blobs: Blobs
    folder: Path
    limits: MediaLimits = field(default_factory=MediaLimits)
    added: Callable[[str], None] = lambda _: None
    """Is called with the id of each upload that is complete: the relay has an event of it to publish."""
    _uploads: UploadFolder = field(init=False)
    _tus: TusServer = field(init=False)

    def __post_init__(self) -> None:
        uploads = UploadFolder(self.folder / "uploads", self.limits.floor)
        uploads.path.mkdir(parents=True, exist_ok=True)
        object.__setattr__(self, "_uploads", uploads)
        object.__setattr__(self, "_tus", TusServer(self.media, self.blobs, uploads, self.limits.quota, self.added))

    def endpoints(self) -> Endpoints:
        uploads = ("describeUploads", "createUpload", "getUpload", "continueUpload", "describeUpload")
        return {**dict.fromkeys(uploads, self.upload), "getMedia": self.get, "getThumbnail": self.thumbnail}

    async def tidy(self) -> None:
        """Delete uploads that were given up or never attached, now and every few minutes, for ever."""
        limits = self.limits
        while True:
            try:
                await asyncio.to_thread(self._uploads.remove_abandoned, limits.abandoned_s)
            except Unavailable as exc:
                _log.warning("uploads_not_tidied", reason=str(exc))
            await collect_orphans(self.media, self.blobs, limits.unattached_s)
            await asyncio.sleep(min(_TIDY_MAX_S, limits.abandoned_s / 4, limits.unattached_s / 4))

    async def upload(self, identity: Identity, scope: Scope, receive: Receive, send: Send) -> None:
        """Speak tus 1.0. Whose the upload is says the token alone."""
        try:
            answer = await self._answer(identity.user_id, scope, receive)
        except MillraceError as exc:
            answer = problem_of(exc)
            if isinstance(exc, UnsupportedVersion):
                answer.headers.update(tus_headers.SPOKEN)
        MutableHeaders(raw=answer.raw_headers)["tus-resumable"] = tus_headers.VERSION
        await answer(scope, receive, send)

    async def _answer(self, user: str, scope: Scope, receive: Receive) -> Response:
        headers, media_id = Headers(scope=scope), scope.get("path_params", {}).get("id")
        method = scope["method"]
        if method == "OPTIONS":
            if media_id is not None:
                await self._tus.exists(user, media_id)
            return Response(status_code=204, headers=tus_headers.SPOKEN)
        tus_headers.check_version(headers)
        if method == "POST":
            return await self._tus.create(user, headers)
        assert media_id is not None
        if method == "HEAD":
            return await self._tus.offset(user, media_id)
        return await self._tus.append(user, media_id, headers, receive)

    async def get(self, call: Call[None, None]) -> Response:
        """Return the file, always as a download; a picture without its metadata."""
        media = await self._readable(call)
        part, media_type = ("clean", media.media_type) if media.clean else ("original", BINARY)
        return await self._file(media, part, media_type or BINARY, media.file_name)

    async def thumbnail(self, call: Call[None, None]) -> Response:
        """Return the thumbnail of a picture, WebP, at most 320 pixels wide and high."""
        media = await self._readable(call)
        if not media.thumbnail:
            raise NotFound("the file has no thumbnail, or it is not made yet")
        return await self._file(media, "thumbnail", "image/webp", "thumbnail.webp")

    async def _readable(self, call: Call[None, None]) -> Media:
        media = await self.media.get(call.path["id"])
        if media is None or not await self.media.may_read(media.media_id, call.user):
            raise NotFound("no such file, or you are not a member of a conversation that it is attached to")
        if media.owner_id != call.user and media.served in (None, "none"):
            raise NotFound(media.error or "the file is being inspected; try again in a moment")
        return media

    async def _file(self, media: Media, part: str, media_type: str, name: str) -> Response:
        blob = await self.blobs.open(f"{media.sha256}/{part}")
        if blob is None:
            raise NotFound("the file was deleted")
        headers = {
            "content-disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
            "content-length": str(blob.size),
            "content-security-policy": "sandbox; default-src 'none'",
            "cache-control": "private, max-age=86400, immutable",
            "etag": f'"{media.sha256[:32]}-{part}"',
        }
        # Each part is read when the peer has taken the one before.
        return StreamingResponse(blob.parts, 200, headers, media_type=media_type)
