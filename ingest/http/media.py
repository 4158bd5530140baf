"""Files under ``/media``: uploads by tus 1.0, and downloads by those who share a conversation with them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlencode

import structlog
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from domain.downloads import SignedUrls, check_lasting
from domain.errors import MillraceError, Unavailable, UnsupportedVersion
from domain.identity import Identity
from domain.media import Blobs, Uploads
from domain.quotas import Quota
from domain.uploads import UploadStore
from ingest.http import tus_headers
from ingest.http.downloads import Downloads
from ingest.http.params import parse_query
from ingest.http.problems import problem_of
from ingest.http.routing import Answer, Call, Endpoints
from ingest.http.tus import TusServer
from ingest.orphans import UNATTACHED_S, collect_orphans
from schemas.answers import MediaUrl
from schemas.calls import MediaQuery, MediaUrlQuery, SignedQuery
from schemas.clock import wire_time
from schemas.fields import FilePart

_log = structlog.get_logger()

ABANDONED_S = 3600.0
"""An upload without a new byte for so long is deleted."""
_TIDY_MAX_S = 300.0


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """Limits of uploads."""

    quota: Quota = field(default_factory=Quota)
    abandoned_s: float = ABANDONED_S
    unattached_s: float = UNATTACHED_S


@dataclass(frozen=True, slots=True)
class MediaEndpoints:
    """Calls about media. ``uploads`` holds uploads until they are complete."""

    media: Uploads
    blobs: Blobs
    uploads: UploadStore
    limits: MediaLimits = field(default_factory=MediaLimits)
    added: Callable[[str], None] = lambda _: None
    """Is called with the id of each upload that is complete: the relay has an event of it to publish."""
    urls: SignedUrls = field(default_factory=SignedUrls)
    _tus: TusServer = field(init=False)
    _downloads: Downloads = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_tus", TusServer(self.media, self.blobs, self.uploads, self.limits.quota, self.added))
        object.__setattr__(self, "_downloads", Downloads(self.media, self.blobs))

    def endpoints(self) -> Endpoints:
        return {
            **dict.fromkeys(("describeUploads", "describeUpload"), self.describe),
            **dict.fromkeys(("createUpload", "continueUpload", "endUpload"), self.upload),
            "getUpload": self.head,
            "getMedia": self.get,
            "getThumbnail": self.thumbnail,
            "signMediaUrl": self.sign,
            "getSignedMedia": self.signed,
        }

    async def tidy(self) -> None:
        """Delete uploads that were given up or never attached, now and every few minutes, for ever."""
        limits = self.limits
        while True:
            try:
                await self.uploads.remove_abandoned(limits.abandoned_s)
            except Unavailable as exc:
                _log.warning("uploads_not_tidied", reason=str(exc))
            await collect_orphans(self.media, self.blobs, limits.unattached_s)
            await asyncio.sleep(min(_TIDY_MAX_S, limits.abandoned_s / 4, limits.unattached_s / 4))

    async def describe(self, identity: Identity, scope: Scope, receive: Receive, send: Send) -> None:
        """Tell what is spoken, to anybody: a client of tus asks before it has a token at hand."""
        answer = Response(status_code=204, headers={**tus_headers.SPOKEN, **tus_headers.RESUMABLE})
        await answer(scope, receive, send)

    async def upload(self, identity: Identity, scope: Scope, receive: Receive, send: Send) -> None:
        """Speak tus 1.0. Whose the upload is says the token alone."""
        try:
            answer = await self._answer(identity.user_id, scope, receive)
        except MillraceError as exc:
            answer = problem_of(exc)
            if isinstance(exc, UnsupportedVersion):
                answer.headers.update(tus_headers.SPOKEN)
        answer.headers.update(tus_headers.RESUMABLE)
        await answer(scope, receive, send)

    async def _answer(self, user: str, scope: Scope, receive: Receive) -> Response:
        headers, method = Headers(scope=scope), scope["method"]
        tus_headers.check_version(headers)
        if method == "POST":
            return await self._tus.create(user, headers)
        media_id = scope["path_params"]["id"]
        if method == "HEAD":
            return await self._tus.offset(user, media_id)
        if method == "DELETE":
            return await self._tus.end(user, media_id)
        return await self._tus.append(user, media_id, headers, receive)

    async def head(self, identity: Identity, scope: Scope, receive: Receive, send: Send) -> None:
        """Tell the offset of an upload to clients of tus, and to others what GET would answer."""
        request = Request(scope)
        if "tus-resumable" in request.headers:
            await self.upload(identity, scope, receive, send)
            return
        query, media_id = parse_query(MediaQuery, request.scope["query_string"]), request.path_params["id"]
        answer = await self._downloads.answer(identity.user_id, media_id, _part(query), request.headers, "HEAD")
        await answer(scope, receive, send)

    async def get(self, call: Call[MediaQuery, None]) -> Response:
        """Return the file, or a range of it; a picture, audio or video without its metadata."""
        return await self._downloads.answer(call.user, call.path["id"], _part(call.query), call.headers, call.method)

    async def thumbnail(self, call: Call[None, None]) -> Response:
        """Return the thumbnail of a picture or video, WebP, at most 320 pixels wide and high."""
        return await self._downloads.answer(call.user, call.path["id"], "thumbnail", call.headers, call.method)

    async def sign(self, call: Call[MediaUrlQuery, None]) -> Answer[MediaUrl]:
        """Return a URL of a file that the caller may read now. Whether that is still so is checked again at its use."""
        media, _ = await self._downloads.find(call.user, call.path["id"], call.query.part)
        check_lasting(media, call.query.part)
        grant, signature = self.urls.issue(media.media_id, call.query.part, call.user)
        fields = {"part": grant.part, "user": grant.user_id, "expires": grant.expires_at, "signature": signature}
        expires_at = wire_time(datetime.fromtimestamp(grant.expires_at, UTC))
        return Answer(MediaUrl(url=f"/media/{media.media_id}/signed?{urlencode(fields)}", expires_at=expires_at), 201)

    async def signed(self, call: Call[SignedQuery, None]) -> Response:
        """Return the file of a signed URL, whose signature was checked in place of a token."""
        ttl_s = self.urls.remaining_s(call.query.expires)
        return await self._downloads.signed(
            call.user, call.path["id"], call.query.part, call.headers, call.method, ttl_s
        )


def _part(query: MediaQuery) -> FilePart:
    return "original" if query.original else "file"
