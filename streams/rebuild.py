"""Rebuilding of the search index after its analysis has changed, beside the work of the stage."""

from __future__ import annotations

import asyncio

import structlog

from domain.errors import Unavailable
from domain.search import Index

_log = structlog.get_logger()

_AT_ONCE = 500
"""Messages that are indexed in one transaction."""
_PAUSE_S, _RETRY_S = 0.05, 1.0
"""Pauses after a transaction, which leave the servers to those who wait for them, and after one that failed."""


async def rebuild(index: Index) -> None:
    """Index anew what an earlier analysis has written, newest first. Workers of a stage share the work."""
    total = 0
    while True:
        try:
            done = await index.rebuild(_AT_ONCE)
        except Unavailable as exc:
            _log.warning("search_rebuild_delayed", reason=str(exc), messages=total)
            await asyncio.sleep(_RETRY_S)
            continue
        if not done:
            break
        if not total:
            _log.info("search_rebuild_started")
        total += done
        await asyncio.sleep(_PAUSE_S)
    if total:
        _log.info("search_rebuild_finished", messages=total)
