"""The key that signs URLs of files, from the settings."""

from __future__ import annotations

from adapters.auth.keys import BadKeys
from domain.downloads import SignedUrls
from runtime.media_settings import Media

_MIN_BYTES = 32


def open_signed_urls(media: Media) -> SignedUrls:
    """Return what signs URLs of files; it signs none when the settings have no key. Raises BadKeys."""
    key = media.signing_key.get_secret_value().encode()
    if key and len(key) < _MIN_BYTES:
        raise BadKeys(f"MILLRACE_MEDIA__SIGNING_KEY must have at least {_MIN_BYTES} bytes")
    return SignedUrls(key, media.signed_url_ttl_s)
