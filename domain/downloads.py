"""Rules of downloads: which bytes a reader gets, under which type, and how a URL stands in for a token. Pure."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from time import time

from domain.errors import Forbidden, MediaNotReady, MediaUnavailable, NotFound
from domain.media import CLEAN, ORIGINAL, THUMBNAIL, UNKNOWN_TYPE, Media
from schemas.fields import FilePart

URL_TTL_S = 300.0
_SHOWN = ("image/", "audio/", "video/")
_SCRIPTED = "+xml"


def stored_part(media: Media, user_id: str, wanted: FilePart) -> str:
    """Return the part of the store that a reader of this upload gets.

    Raises MediaNotReady, MediaUnavailable, Forbidden, NotFound.
    """
    if wanted == "thumbnail":
        return _thumbnail(media)
    owns = media.owner_id == user_id
    if media.served == "clean" and not (owns and wanted == "original"):
        if wanted == "original":
            raise Forbidden("only its owner may read the original of this file; read it without `original`")
        return CLEAN
    if not owns:
        _check_served(media)
    return ORIGINAL


def shown_as(media: Media, part: str) -> tuple[str, bool]:
    """Return the media type of a part, and whether browsers may show it in a page; else it is a file to save.

    The type by content is what is served, so the original beside a clean copy may have another one.
    """
    if part == THUMBNAIL:
        return "image/webp", True
    kind = media.media_type or UNKNOWN_TYPE
    is_known = part == CLEAN or media.served != "clean"
    is_shown = is_known and kind.startswith(_SHOWN) and not kind.endswith(_SCRIPTED)
    return (kind, True) if is_shown else (UNKNOWN_TYPE, False)


def check_lasting(media: Media, wanted: FilePart) -> None:
    """Raise MediaNotReady while the bytes may become others: a page would show a file of unknown type, and keep it."""
    if media.served is None and wanted == "file":
        raise _not_ready()


def _thumbnail(media: Media) -> str:
    if media.served is None:
        raise _not_ready()
    if not media.thumbnail:
        raise NotFound("the file has no thumbnail")
    return THUMBNAIL


def _check_served(media: Media) -> None:
    if media.served is None:
        raise _not_ready()
    if media.served == "none":
        raise MediaUnavailable(f"only its owner may read this file: {media.error or 'no clean copy can be made of it'}")


def _not_ready() -> MediaNotReady:
    return MediaNotReady("the file is being inspected; try again in a moment")


@dataclass(frozen=True, slots=True)
class Grant:
    """A user's right to read one part of a file until a time, in Unix seconds."""

    media_id: str
    part: FilePart
    user_id: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class SignedUrls:
    """Signs grants, and checks signatures; all ingests have the same key. Without a key there are no signed URLs."""

    key: bytes = field(default=b"", repr=False)
    ttl_s: float = URL_TTL_S
    clock: Callable[[], float] = time

    def issue(self, media_id: str, part: FilePart, user_id: str) -> tuple[Grant, str]:
        """Return a grant that begins now, and its signature. Raises NotFound when there are no signed URLs."""
        if not self.key:
            raise NotFound("signed URLs are turned off; read the file with a token")
        grant = Grant(media_id, part, user_id, int(self.clock() + self.ttl_s))
        return grant, self._signature(grant)

    def check(self, grant: Grant, signature: str) -> None:
        """Raise Forbidden unless the signature is that of the grant and its time has not passed."""
        is_ours = bool(self.key) and hmac.compare_digest(self._signature(grant).encode(), signature.encode())
        if not is_ours or grant.expires_at <= self.clock():
            raise Forbidden("the URL has expired or was changed; get a new one")

    def remaining_s(self, expires_at: int) -> int:
        """Return how many whole seconds are left until this time."""
        return max(0, int(expires_at - self.clock()))

    def _signature(self, grant: Grant) -> str:
        # No field can hold a line break, so no two grants have the same text.
        text = "\n".join(("millrace media 1", grant.media_id, grant.part, grant.user_id, str(grant.expires_at)))
        return urlsafe_b64encode(hmac.digest(self.key, text.encode(), "sha256")).decode().rstrip("=")
