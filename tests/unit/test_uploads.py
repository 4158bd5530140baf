"""Uploads that were given up."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from adapters.memory.blobs import MemoryBlobs
from adapters.memory.media import MemoryMedia
from adapters.memory.tables import Tables
from adapters.upload_folder import DiskFloor, open_folder
from ingest.http.media import ABANDONED_S, MediaEndpoints


async def test_what_was_given_up_is_deleted_and_what_goes_on_is_not(tmp_path: Path):
    media = MediaEndpoints(MemoryMedia(Tables()), MemoryBlobs(), open_folder(tmp_path / "uploads", DiskFloor(0, 0)))
    ages = {"old": ABANDONED_S + 60, "old.meta": ABANDONED_S + 90, "new": 60, "new.meta": ABANDONED_S + 90}
    files = {tmp_path / "uploads" / name: age for name, age in ages.items()}
    for file, age_s in files.items():
        file.write_bytes(b"x")
        os.utime(file, (time.time() - age_s, time.time() - age_s))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await media.tidy()
    assert {file.name for file in files if file.exists()} == {"new", "new.meta"}
