"""Uploads: resumable (tus 1.0) under ``/media``, read by those who share a conversation with them."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from tussi import FilesystemStorage, TUSApp, UploadCompletedEvent, UploadRecord

from domain.errors import NotFound
from domain.identity import Identity
from domain.media import Blobs, Media, Uploads
from ingest.http.problems import code_of, problem
from ingest.http.routing import Call, Endpoints
from schemas.fields import MAX_UPLOAD
from schemas.routes import BINARY, TUS

ABANDONED_S = 24 * 3600.0
"""An upload without a new byte for so long is deleted."""
_TIDY_EVERY_S = 3600.0
_PARTS = ("uploads", "complete")
"""Parts of the folder: uploads under way, and files that are complete but not stored yet."""
_OWNER = "millrace-owner"
_DETAILS = {
    400: "Upload-Length, Upload-Offset, Upload-Metadata and Content-Length must be as tus 1.0 has them",
    404: "no such upload by this user",
    409: "Upload-Offset must be the number of bytes that have arrived; ask for it with HEAD",
    412: "Tus-Resumable must be 1.0.0",
    413: f"the file must have at most {MAX_UPLOAD} bytes, and no part more than is left",
    415: f"Content-Type must be {TUS}",
}
"""Answers of tussi have no text."""


@dataclass(frozen=True, slots=True)
class MediaEndpoints:
    """Calls about media. ``folder`` holds uploads until they are complete."""

    media: Uploads
    blobs: Blobs
    folder: Path
    tus: TUSApp = field(init=False)

    def __post_init__(self) -> None:
        for part in _PARTS:
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        tus = TUSApp(
            storage=FilesystemStorage(directory=self.folder / "uploads"),
            completed_dir=self.folder / "complete",
            on_event=self._on_event,
            on_create=_remember_owner,
            max_size=MAX_UPLOAD,
        )
        object.__setattr__(self, "tus", tus)

    def endpoints(self) -> Endpoints:
        uploads = ("describeUploads", "createUpload", "getUpload", "continueUpload", "describeUpload")
        return {**dict.fromkeys(uploads, self.upload), "getMedia": self.get, "getThumbnail": self.thumbnail}

    async def tidy(self) -> None:
        """Delete uploads that were given up, now and every hour, for ever."""
        while True:
            for part in _PARTS:
                await asyncio.to_thread(_tidy, self.folder / part, time.time() - ABANDONED_S)
            await asyncio.sleep(_TIDY_EVERY_S)

    async def upload(self, identity: Identity, scope: Scope, receive: Receive, send: Send) -> None:
        """Speak tus 1.0: creation, and the upload itself in as many parts as it takes."""
        user = identity.user_id
        media_id = scope.get("path_params", {}).get("id")
        if media_id is not None and await self._owner(media_id) != user:
            raise NotFound("no such upload by this user")
        scope = {**scope, "headers": [*_without_owner(scope["headers"]), (_OWNER.encode(), user.encode())]}
        answer = await self.tus.get_response(scope, receive)
        if answer.status_code >= 400:
            detail = _DETAILS.get(answer.status_code, "the storage of uploads does not answer; try again")
            answer = problem(answer.status_code, code_of(answer.status_code), detail, _tus(answer))
        await answer(scope, receive, send)

    async def _owner(self, media_id: str) -> str | None:
        file = self.folder / "uploads" / f"{Path(media_id).name}.meta"
        try:
            owner: str | None = UploadRecord.from_file(file).server_metadata.get(_OWNER)
        except (OSError, ValueError):
            return None
        return owner

    async def _on_event(self, event: object) -> None:
        if isinstance(event, UploadCompletedEvent):
            await self._complete(event.upload_info.upload_id)

    async def _complete(self, media_id: str) -> None:
        """Keep a file whose last byte has arrived by its content, then store its owner."""
        file = self.folder / "complete" / media_id
        record = UploadRecord.from_file(file.with_name(f"{media_id}.meta"))
        content = await asyncio.to_thread(file.read_bytes)
        sha256 = hashlib.sha256(content).hexdigest()
        await self.blobs.put(f"{sha256}/original", content)
        await self.media.add(
            Media(
                media_id=media_id,
                owner_id=record.server_metadata[_OWNER],
                file_name=record.metadata.get("filename", "file")[:200],
                declared_type=record.metadata.get("filetype", "")[:100],
                size=len(content),
                sha256=sha256,
            )
        )
        file.unlink()
        file.with_name(f"{media_id}.meta").unlink()

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
        return media

    async def _file(self, media: Media, part: str, media_type: str, name: str) -> Response:
        content = await self.blobs.get(f"{media.sha256}/{part}")
        if content is None:
            raise NotFound("the file was deleted")
        headers = {
            "content-disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
            "content-security-policy": "sandbox; default-src 'none'",
            "cache-control": "private, max-age=86400, immutable",
            "etag": f'"{media.sha256[:32]}-{part}"',
        }
        return Response(content, 200, headers, media_type=media_type)


def _tidy(folder: Path, before: float) -> None:
    """Delete what was last written before that: a file and its ``.meta`` together. (tussi's own janitor takes one that
    is being moved for an orphan.)"""
    uploads: defaultdict[str, list[Path]] = defaultdict(list)
    for file in folder.iterdir():
        uploads[file.name.removesuffix(".meta")].append(file)
    for files in uploads.values():
        with suppress(FileNotFoundError):  # it has gone on meanwhile
            if max(file.stat().st_mtime for file in files) < before:
                for file in files:
                    file.unlink()


def _without_owner(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Drop a header that a client made up to name another owner."""
    return [(name, value) for name, value in headers if name.lower() != _OWNER.encode()]


async def _remember_owner(headers: dict[str, str], _: dict[str, str]) -> dict[str, str]:
    return {_OWNER: headers[_OWNER]}


def _tus(answer: Response) -> dict[str, str]:
    return {k: v for k, v in answer.headers.items() if k.startswith(("tus-", "upload-"))}
