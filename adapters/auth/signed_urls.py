"""The key that signs URLs of files, from the settings."""

from __future__ import annotations

from pathlib import Path

from adapters.auth.keys import BadKeys
from domain.downloads import SignedUrls
from runtime.media_settings import Media

_MIN_BYTES = 32


def open_signed_urls(media: Media) -> SignedUrls:
    """Return what signs URLs of files; it signs none when the settings have no key. Raises BadKeys."""
    key, path = media.signing_key.get_secret_value(), media.signing_key_file
    if key and path:
        raise BadKeys("MILLRACE_MEDIA__SIGNING_KEY must be left out with MILLRACE_MEDIA__SIGNING_KEY_FILE")
    if path:
        key = _read(Path(path))
    if (key or path) and len(key.encode()) < _MIN_BYTES:
        raise BadKeys(f"MILLRACE_MEDIA__SIGNING_KEY must have at least {_MIN_BYTES} bytes")
    return SignedUrls(key.encode(), media.signed_url_ttl_s)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise BadKeys(f"MILLRACE_MEDIA__SIGNING_KEY_FILE must name a file of text that can be read: {path}") from exc
