"""Uploads under way on the disk: nothing is reserved, what arrived stays, and a full disk is said as it is."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from adapters.upload_folder import DiskFloor, UploadFile, UploadFolder
from domain.errors import InsufficientStorage, NotFound, QuotaExceeded
from domain.quotas import Quota, Usage, check_quota
from domain.uploads import Upload
from ingest.http.tus import digest
from schemas.ids import new_id

MB = 2**20
NO_FLOOR = DiskFloor(0, 0)


def upload(size: int = 32 * MB, owner: str = "alice") -> Upload:
    return Upload(media_id=new_id(), owner_id=owner, file_name="a.png", declared_type="image/png", size=size)


def folder(path: Path, floor: DiskFloor = NO_FLOOR) -> UploadFolder:
    path.mkdir(exist_ok=True)
    return UploadFolder(path, floor)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this user may not mount a file system")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def test_nothing_is_reserved_for_what_is_announced(tmp_path):
    uploads, announced = folder(tmp_path), upload()
    uploads.create(announced, len)
    assert uploads.file(announced).stat().st_blocks == 0
    assert uploads.arrived(announced) == 0
    assert uploads.find("alice", announced.media_id) == announced


def test_an_upload_is_found_by_its_owner_alone(tmp_path):
    uploads, announced = folder(tmp_path), upload()
    uploads.create(announced, len)
    assert uploads.find("bob", announced.media_id) is None
    assert uploads.find("alice", new_id()) is None


def test_the_uploads_of_each_user_are_counted_for_themselves(tmp_path):
    uploads, seen = folder(tmp_path), list[list[int]]()
    for owner, size in (("alice", 1), ("alice", 2), ("bob", 3), ("alice", 4)):
        uploads.create(upload(size, owner), lambda sizes: seen.append(sorted(sizes)))
    assert seen == [[], [1], [], [1, 2]]


def test_of_many_that_begin_at_once_on_several_ingests_no_more_than_the_quota_begin(tmp_path):
    check = partial(check_quota, Quota(uploads=5), Usage(), size=1, now=datetime.now(UTC))
    ingests = [folder(tmp_path) for _ in range(4)]

    def begin(number: int) -> bool:
        try:
            ingests[number % 4].create(upload(1), check)
        except QuotaExceeded:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(begin, range(60))) == 5


def test_one_request_at_a_time_writes_to_an_upload(tmp_path):
    uploads, announced = folder(tmp_path), upload(3)
    uploads.create(announced, len)
    first = uploads.open(announced)
    assert first is not None
    assert folder(tmp_path).open(announced) is None
    first.append(b"abc")
    first.close()
    second = uploads.open(announced)
    assert second is not None
    assert second.offset == 3
    uploads.remove(announced)
    second.close()
    with pytest.raises(NotFound):
        uploads.open(announced)


def test_a_write_after_the_end_of_its_request_reaches_no_file(tmp_path):
    uploads, announced = folder(tmp_path), upload(3)
    uploads.create(announced, len)
    file = uploads.open(announced)
    assert file is not None
    file.close()
    file.append(b"abc")
    file.sync()
    assert uploads.arrived(announced) == 0


def test_what_fits_on_a_full_disk_stays_and_the_upload_goes_on_when_there_is_room(small_disk):
    uploads, announced, other = folder(small_disk), upload(3 * MB), small_disk / "other"
    uploads.create(announced, len)
    other.write_bytes(bytes(2 * MB))
    content = os.urandom(3 * MB)
    file = uploads.open(announced)
    assert file is not None
    with pytest.raises(InsufficientStorage):
        file.append(content)
    file.sync()
    assert MB < file.offset < 2 * MB
    assert uploads.arrived(announced) == file.offset
    other.unlink()
    file.append(content[file.offset :])
    file.sync()
    file.close()
    assert uploads.file(announced).read_bytes() == content


def test_uploads_leave_the_floor_of_free_space_to_others(small_disk):
    uploads = folder(small_disk, DiskFloor(MB, 100))
    announced = upload(4 * MB)
    with pytest.raises(InsufficientStorage):
        uploads.create(announced, len)
    announced = upload(2 * MB)
    uploads.create(announced, len)
    file = uploads.open(announced)
    assert file is not None
    with pytest.raises(InsufficientStorage):
        for _ in range(16):
            file.append(bytes(256 * 1024))
    file.close()
    disk = os.statvfs(small_disk)
    assert MB - 512 * 1024 < disk.f_bavail * disk.f_frsize <= MB + 4096
    (small_disk / "theirs").write_bytes(bytes(MB // 2))  # what else is on the disk does not suffer


@pytest.mark.parametrize(
    ("free", "percent", "available", "refused"),
    [
        (2**30, 5, 2**30 - 1, True),  # a large disk: 1 GiB
        (2**30, 5, 2**30, False),
        (2**40, 5, 5 * 2**30 - 1, True),  # a small one: 5 % of 100 GiB
        (2**40, 5, 5 * 2**30, False),
        (0, 5, 0, False),
        (2**30, 0, 0, False),
    ],
)
def test_the_floor_is_the_smaller_of_bytes_and_percent(monkeypatch, tmp_path, free, percent, available, refused):
    disk = os.statvfs_result((1, 1, 100 * 2**30, available, available, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: disk)
    if refused:
        with pytest.raises(InsufficientStorage):
            DiskFloor(free, percent).check(tmp_path)
    else:
        DiskFloor(free, percent).check(tmp_path)


def test_a_device_that_is_full_is_said_as_that():
    file = UploadFile(Path("/dev/full"), os.open("/dev/full", os.O_WRONLY), NO_FLOOR)
    with pytest.raises(InsufficientStorage):
        file.append(b"x")
    assert file.offset == 0
    file.close()


def test_bytes_that_cannot_be_made_durable_are_sent_again(tmp_path, monkeypatch):
    uploads, announced = folder(tmp_path), upload(6)
    uploads.create(announced, len)
    file = uploads.open(announced)
    assert file is not None
    file.append(b"abc")
    file.sync()
    file.append(b"def")

    def fail(_: int) -> None:
        raise OSError(28, "no space")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(InsufficientStorage):
        file.sync()
    assert (file.offset, uploads.arrived(announced)) == (3, 3)
    file.close()


async def test_abandoned_uploads_are_deleted_with_what_they_say_of_themselves(tmp_path):
    uploads, old, new = folder(tmp_path), upload(1), upload(1)
    for each in (old, new):
        uploads.create(each, len)
    for file in tmp_path.rglob(f"*{old.media_id}*"):
        os.utime(file, (0, 0))
    await asyncio.to_thread(uploads.remove_abandoned, 3600)
    assert uploads.find("alice", old.media_id) is None
    assert uploads.find("alice", new.media_id) == new
    assert not list(tmp_path.rglob(f"*{old.media_id}*"))


def test_a_file_is_named_by_its_content(tmp_path):
    (tmp_path / "empty").touch()
    assert digest(tmp_path / "empty") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
