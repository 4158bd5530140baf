"""Server of tus 1.0: creation of an upload, its offset, and its bytes in as many parts as it takes.

Bytes are stored as they come. An upload becomes a file of its owner when its last byte has arrived; when that fails it
stays complete where uploads under way are, and any later HEAD or PATCH tries again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive

from domain.errors import Conflict, NotFound, RequestTimeout, TooLarge, Unavailable
from domain.media import ORIGINAL, Blobs, Media, Uploads, blob
from domain.quotas import Quota, check_quota
from domain.uploads import Upload, UploadStore, UploadWriter
from ingest.http.tus_headers import Part, new_upload, part
from schemas.fields import MAX_UPLOAD
from schemas.ids import is_uuid, new_id

PIECE = 256 * 1024
"""Bytes of a body that are in memory at most, besides what the server has read ahead."""
IDLE_S = 20.0
"""A body that brings nothing for so long ends; what came before is kept."""
STALLED_S = 1.0
"""A client that has lost its connection comes back on another. Its first request then ends if it stalls so long."""
_LOCK_WAIT_S = 2.0
_LOCK_LOOK_S = 0.05
_NONE = "no such upload by this user"
_TOO_MUCH = f"the file must have at most {MAX_UPLOAD} bytes, and no part more than is left"
_OFFSET = "Upload-Offset must be the number of bytes that have arrived; ask for it with HEAD"
_LOCKED = "another request writes to this upload; ask for its offset with HEAD and go on from there"


@dataclass(slots=True, eq=False)
class _Body:
    """A body that is being received, and since when it is waited for."""

    patience: asyncio.Timeout | None = None
    since: float = 0.0
    is_ended: bool = False


class _Completed(Exception):
    """The upload is not under way any more."""


@dataclass(frozen=True, slots=True)
class TusServer:
    """Uploads of all users."""

    media: Uploads
    blobs: Blobs
    uploads: UploadStore
    quota: Quota
    added: Callable[[str], None] = lambda _: None
    idle_s: float = IDLE_S
    _bodies: dict[str, _Body] = field(default_factory=dict)

    async def create(self, user: str, headers: Headers) -> Response:
        """Begin an upload; one of an empty file is complete at once.

        Raises BadUpload, TooLarge, QuotaExceeded, InsufficientStorage, Unavailable.
        """
        upload = new_upload(new_id(), user, headers)
        usage = await self.media.usage(user)
        check = partial(check_quota, self.quota, usage, size=upload.size, now=datetime.now(UTC))
        await self.uploads.create(upload, check)
        if not upload.size:
            await self._locked(upload, self._complete)
        return Response(status_code=201, headers={"location": f"/media/{upload.media_id}"})

    async def offset(self, user: str, media_id: str) -> Response:
        """Return how many bytes have arrived. Raises NotFound, Conflict, Unavailable."""
        return await self._under_way(user, media_id, self._offset, lambda size: _progress(size, size))

    async def append(self, user: str, media_id: str, headers: Headers, receive: Receive) -> Response:
        """Take the next bytes.

        Raises NotFound, BadUpload, UnsupportedType, Conflict, TooLarge, RequestTimeout, InsufficientStorage and
        Unavailable.
        """

        async def work(upload: Upload) -> Response:
            return await self._locked(upload, partial(self._append, sent=part(headers), receive=receive))

        def completed(size: int) -> Response:
            _check_fits(part(headers), size, size)
            return _progress(size, size)

        return await self._under_way(user, media_id, work, completed)

    async def end(self, user: str, media_id: str) -> Response:
        """Give up an upload under way. Raises NotFound, Conflict (it is complete, or written to), Unavailable."""

        def completed(_: int) -> Response:
            raise Conflict("the upload is complete; a file that no message names is deleted by itself")

        return await self._under_way(user, media_id, lambda upload: self._locked(upload, self._end), completed)

    async def _under_way(
        self,
        user: str,
        media_id: str,
        work: Callable[[Upload], Awaitable[Response]],
        completed: Callable[[int], Response],
    ) -> Response:
        """Return what ``work`` returns, or ``completed`` of the size once the upload is complete. Raises NotFound."""
        for _ in range(2):  # it may be completed between two looks
            upload = await self._find(user, media_id)
            if isinstance(upload, Media):
                return completed(upload.size)
            self._end_stalled(media_id)
            with suppress(_Completed):
                return await work(upload)
        raise NotFound(_NONE)

    async def _find(self, user: str, media_id: str) -> Upload | Media:
        """Return an upload under way, or one that is complete. Raises NotFound, Unavailable."""
        if not is_uuid(media_id):
            raise NotFound(_NONE)
        upload = await self.uploads.find(user, media_id)
        if upload is not None:
            return upload
        media = await self.media.get(media_id)
        if media is None or media.owner_id != user:
            raise NotFound(_NONE)
        return media

    async def _locked(self, upload: Upload, work: Callable[[Upload, UploadWriter], Awaitable[Response]]) -> Response:
        """Return what ``work`` returns, which holds the upload's lock.

        Raises Conflict while another holds it, _Completed when it is not under way any more.
        """
        clock = asyncio.get_running_loop().time
        end = clock() + _LOCK_WAIT_S
        while (file := await self._open(upload)) is None:
            body = self._bodies.get(upload.media_id)
            if clock() > end or (body is not None and not body.is_ended):
                raise Conflict(_LOCKED)
            await asyncio.sleep(_LOCK_LOOK_S)
        try:
            return await work(upload, file)
        finally:
            await file.close()

    async def _open(self, upload: Upload) -> UploadWriter | None:
        try:
            return await self.uploads.open(upload)
        except NotFound as exc:
            raise _Completed from exc

    async def _offset(self, upload: Upload) -> Response:
        try:
            arrived = await self.uploads.arrived(upload)
        except NotFound as exc:
            raise _Completed from exc
        if arrived == upload.size:
            return await self._locked(upload, self._complete)
        return _progress(arrived, upload.size)

    async def _append(self, upload: Upload, file: UploadWriter, *, sent: Part, receive: Receive) -> Response:
        _check_fits(sent, file.offset, upload.size)
        try:
            await self._receive(upload, file, receive)
        finally:
            await file.sync()
        if file.offset == upload.size:
            return await self._complete(upload, file)
        return _progress(file.offset)

    async def _receive(self, upload: Upload, file: UploadWriter, receive: Receive) -> None:
        """Write the body to the disk. What has come before an error is written, too."""
        body = self._bodies[upload.media_id] = _Body()
        piece, more = bytearray(), True
        try:
            while more:
                content, more = await self._next(body, receive)
                piece += content
                if file.offset + len(piece) > upload.size:
                    piece.clear()
                    raise TooLarge(_TOO_MUCH)
                if len(piece) >= PIECE:
                    await _flush(file, piece)
        finally:
            del self._bodies[upload.media_id]
            await _flush(file, piece)

    async def _next(self, body: _Body, receive: Receive) -> tuple[bytes, bool]:
        """Return the next bytes of the body, and whether more may come. Raises RequestTimeout, ClientDisconnect."""
        body.since = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self.idle_s) as body.patience:
                message = await receive()
        except TimeoutError as exc:
            raise RequestTimeout("the body did not come; ask for the offset with HEAD and go on from there") from exc
        finally:
            body.patience = None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        return message.get("body", b""), message.get("more_body", False)

    def _end_stalled(self, media_id: str) -> None:
        """End a body of the upload that brings nothing: its client is here again."""
        body, now = self._bodies.get(media_id), asyncio.get_running_loop().time()
        if body is not None and body.patience is not None and now - body.since > STALLED_S:
            body.is_ended = True
            body.patience.reschedule(now)

    async def _end(self, upload: Upload, _: UploadWriter) -> Response:
        await self.uploads.remove(upload)
        return Response(status_code=204)

    async def _complete(self, upload: Upload, file: UploadWriter) -> Response:
        """Keep a file whose last byte has arrived by its content, then store whose it is. Idempotent."""
        async with file.whole() as path:
            sha256 = await asyncio.to_thread(digest, path)
            media = Media(
                media_id=upload.media_id,
                owner_id=upload.owner_id,
                file_name=upload.file_name,
                declared_type=upload.declared_type,
                size=upload.size,
                sha256=sha256,
            )
            keep = partial(self.blobs.put_file, blob(sha256, ORIGINAL), path)
            await keep()  # so that a transaction need not wait for it: there it finds the file, unless that was deleted
            await self.media.add(media, keep)
        self.added(upload.media_id)
        await self.uploads.remove(upload)
        return _progress(upload.size, upload.size)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal. Raises Unavailable."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise Unavailable("the storage of uploads does not answer; try again") from exc


async def _flush(file: UploadWriter, piece: bytearray) -> None:
    if piece:
        content = bytes(piece)
        piece.clear()
        await file.append(content)


def _check_fits(sent: Part, arrived: int, size: int) -> None:
    if sent.offset != arrived:
        raise Conflict(_OFFSET)
    if sent.length is not None and sent.length > size - arrived:
        raise TooLarge(_TOO_MUCH)


def _progress(offset: int, size: int | None = None) -> Response:
    headers = {"upload-offset": str(offset), "cache-control": "no-store"}
    return Response(status_code=204, headers=headers if size is None else {**headers, "upload-length": str(size)})
