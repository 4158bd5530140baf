"""Uploads that no message names: they and their files are deleted a day after they were complete."""

from __future__ import annotations

from functools import partial

import structlog

from domain.errors import Unavailable
from domain.media import PARTS, Blobs, Uploads, blob

_log = structlog.get_logger()

UNATTACHED_S = 86_400.0
"""Age at which an upload is judged: attached by then, or deleted."""
_LIMIT = 1_000


async def collect_orphans(media: Uploads, blobs: Blobs, older_than_s: float = UNATTACHED_S) -> None:
    """Delete uploads that no message names, and the files that no upload has any more.

    What cannot be deleted now is tried again by the next call.
    """
    try:
        unused = await media.collect(older_than_s, _LIMIT)
    except Unavailable as exc:
        _log.warning("orphans_not_collected", reason=str(exc))
        return
    for sha256 in unused:
        try:
            await media.discard(sha256, partial(_delete, blobs, sha256))
        except Unavailable as exc:
            _log.warning("files_not_deleted", sha256=sha256, reason=str(exc))


async def _delete(blobs: Blobs, sha256: str) -> None:
    for part in PARTS:
        await blobs.delete(blob(sha256, part))
