"""Answers that carry a file: whole or a range of it, or the news that the client has it already."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from domain.downloads import shown_as, stored_part
from domain.errors import NotFound
from domain.file_names import content_disposition, named_as
from domain.media import CLEAN, THUMBNAIL, Blob, Blobs, Media, Uploads, blob
from ingest.http.ranges import byte_range, is_unchanged
from schemas.fields import FilePart
from schemas.ids import is_uuid

_GONE = "the file was deleted"
_DAY_S = 86_400


class FileResponse(Response):
    """An answer with the bytes of a file, each part of which is read when the peer has taken the one before."""

    def __init__(self, open_: Callable[[], Awaitable[Blob | None]], status: int, headers: Mapping[str, str]) -> None:
        """Open the file only when its bytes are to be sent: HEAD has the same headers and no bytes."""
        super().__init__(status_code=status, headers=headers)
        self._open = open_

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "HEAD":
            await super().__call__(scope, receive, send)
            return
        opened = await self._open()
        if opened is None:
            raise NotFound(_GONE)
        stream = StreamingResponse(opened.parts, self.status_code)
        stream.raw_headers = self.raw_headers
        await stream(scope, receive, send)


@dataclass(frozen=True, slots=True)
class Downloads:
    """Downloads of all users."""

    media: Uploads
    blobs: Blobs

    async def find(self, user: str, media_id: str, wanted: FilePart) -> tuple[Media, str]:
        """Return an upload that the user may read, and the part that is served of it.

        Raises NotFound, Forbidden, MediaNotReady, MediaUnavailable, Unavailable.
        """
        media = await self.media.get(media_id) if is_uuid(media_id) else None
        if media is None or not await self.media.may_read(media_id, user):
            raise NotFound("no such file, or you are not a member of a conversation that it is attached to")
        return media, stored_part(media, user, wanted)

    async def answer(self, user: str, media_id: str, wanted: FilePart, headers: Headers, method: str) -> Response:
        """Return the answer to GET or HEAD. A copy is kept by the caller alone: others may not read the file.

        Raises NotFound, Forbidden, MediaNotReady, MediaUnavailable, RangeNotSatisfiable, Unavailable.
        """
        media, part = await self.find(user, media_id, wanted)
        # Until it was inspected, the same URL may bring other bytes the next time.
        freshness = "no-cache" if media.served is None else f"max-age={_DAY_S}, immutable"
        kept = {"cache-control": f"private, {freshness}", "vary": "authorization"}
        return await self._file(media, part, headers, method, kept)

    async def signed(
        self, user: str, media_id: str, wanted: FilePart, headers: Headers, method: str, ttl_s: int
    ) -> Response:
        """Return the answer to a signed URL. Raises what ``answer`` raises."""
        media, part = await self.find(user, media_id, wanted)
        kept = {"cache-control": f"private, max-age={ttl_s}", "referrer-policy": "no-referrer"}
        return await self._file(media, part, headers, method, kept)

    async def _file(self, media: Media, part: str, asked: Headers, method: str, kept: Mapping[str, str]) -> Response:
        name = blob(media.sha256, part)
        size = await self.blobs.size(name)
        if size is None:
            raise NotFound(_GONE)
        etag = f'"{media.sha256[:32]}-{part}"'
        headers = {"etag": etag, "accept-ranges": "bytes", **kept}
        if is_unchanged(asked, etag):
            return Response(status_code=304, headers=headers)
        span = byte_range(asked, size, etag) if method == "GET" else None  # ranges are defined for GET alone
        headers |= _description(media, part)
        if span is None:
            headers["content-length"] = str(size)
            return FileResponse(lambda: self.blobs.open(name), 200, headers)
        headers |= {"content-length": str(span.end - span.start), "content-range": span.content_range}
        return FileResponse(lambda: self.blobs.open(name, span.start, span.end), 206, headers)


def _description(media: Media, part: str) -> dict[str, str]:
    kind, is_shown = shown_as(media, part)
    name = "thumbnail.webp" if part == THUMBNAIL else media.file_name
    if part == CLEAN:
        name = named_as(name, kind)
    return {
        "content-type": kind,
        "content-disposition": content_disposition("inline" if is_shown else "attachment", name),
        "content-security-policy": "sandbox; default-src 'none'",
    }
