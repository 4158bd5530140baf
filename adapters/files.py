"""Files and uploads under way where the settings say: in a folder, or in a bucket of S3."""

from __future__ import annotations

import asyncio
from pathlib import Path

from adapters.blobs import ObjectBlobs, open_folder_blobs
from adapters.object_store import Place, S3Access, Store, check, open_s3, place
from adapters.upload_folder import DiskFloor, open_folder
from adapters.upload_objects import ObjectUploads
from domain.errors import Unavailable
from domain.uploads import UploadStore
from runtime.media_settings import Media

_AGAIN_S = 1.0


def open_blobs(settings: Media, data_dir: Path) -> ObjectBlobs:
    """Return the files. Raises BadStore."""
    where = _place(settings, data_dir)
    if where.folder is None:
        return ObjectBlobs(open_s3(where, _access(settings)))
    return open_folder_blobs(where.folder)


async def open_files(settings: Media, data_dir: Path, wait_s: float = 0.0) -> tuple[ObjectBlobs, UploadStore]:
    """Return the files, and the uploads under way, which may be written; wait for S3 as long as ``wait_s``.

    Raises BadStore, Unavailable.
    """
    where, blobs = _place(settings, data_dir), open_blobs(settings, data_dir)
    if where.folder is None:
        await _until_checked(blobs.store, wait_s)
        return blobs, ObjectUploads(blobs.store)
    floor = DiskFloor(settings.min_free_bytes, settings.min_free_percent)
    return blobs, open_folder(where.folder / "uploads", floor)


async def _until_checked(store: Store, wait_s: float) -> None:
    clock = asyncio.get_running_loop().time
    end = clock() + wait_s
    while True:
        try:
            return await check(store)
        except Unavailable:
            if clock() >= end:
                raise
        await asyncio.sleep(_AGAIN_S)


def _place(settings: Media, data_dir: Path) -> Place:
    return place(settings.url, data_dir / "media")


def _access(settings: Media) -> S3Access:
    return S3Access(
        settings.s3_endpoint,
        settings.s3_region,
        settings.s3_access_key_id,
        settings.s3_secret_access_key.get_secret_value(),
    )
