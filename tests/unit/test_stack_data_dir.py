"""The data folder: its lock, its secrets, its state."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from stack.errors import StackError
from stack.servers import data_dir as module
from stack.servers.data_dir import DataDir, move_into_place, nobody, write_privately


@pytest.fixture
def folder(tmp_path: Path) -> DataDir:
    made = DataDir(tmp_path / "data")
    made.prepare()
    return made


def test_a_secret_stays_the_same_and_is_private(folder: DataDir):
    secret = folder.secret("jwt")
    assert len(secret) >= 32
    assert folder.secret("jwt") == secret
    assert folder.secret("redis") != secret
    assert stat.S_IMODE((folder.path / "secrets" / "jwt").stat().st_mode) == 0o600
    assert stat.S_IMODE((folder.path / "secrets").stat().st_mode) == 0o700


def test_one_supervisor_at_a_time_and_the_other_is_named(folder: DataDir, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_LOCK_S", 0.05)
    assert folder.holder() is None
    with folder.locked():
        assert folder.holder() == os.getpid()
        with pytest.raises(StackError, match=rf"already \(process {os.getpid()}\)"), folder.locked():
            pass
    assert folder.holder() is None


def test_one_who_only_looks_keeps_nobody_out(folder: DataDir):
    with folder.locked():
        pass
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            folder.holder()

    looker = threading.Thread(target=look)
    looker.start()
    try:
        for _ in range(50):
            with folder.locked():
                pass
    finally:
        done.set()
        looker.join()


def test_state_is_private_and_read_back(folder: DataDir):
    folder.write("state.json", {"pid": 7})
    assert folder.read("state.json") == {"pid": 7}
    assert stat.S_IMODE((folder.path / "state.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", '{"pid":', "[1]", "null"])
def test_a_damaged_state_counts_as_none(folder: DataDir, text: str):
    (folder.path / "state.json").write_text(text)
    assert folder.read("state.json") == {}


def test_a_full_disk_is_named_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_ROOM", 2**60)
    with pytest.raises(StackError, match="MB are free on the disk of"):
        DataDir(tmp_path / "data").prepare()


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StackError, match="cannot be written"):
        DataDir(tmp_path / "file").prepare()


def test_what_is_complete_never_replaces_what_is_there(tmp_path: Path):
    made, place = tmp_path / "made", tmp_path / "place"
    made.mkdir()
    place.mkdir()
    (place / "precious").write_text("")
    with pytest.raises(OSError, match="not empty"):
        move_into_place(made, place)
    (place / "precious").unlink()
    move_into_place(made, place)
    assert place.exists()
    assert not made.exists()


def test_a_link_that_waits_under_the_name_is_not_followed(tmp_path: Path):
    precious = tmp_path / "precious"
    precious.write_text("years of work")
    for name in ("secret", f".secret.{os.getpid()}"):
        (tmp_path / name).symlink_to(precious)
    write_privately(tmp_path / "secret", "new")
    assert precious.read_text() == "years of work"
    assert (tmp_path / "secret").read_text() == "new"
    assert not (tmp_path / "secret").is_symlink()


def test_a_failure_leaves_nothing_and_the_old_file(tmp_path: Path):
    (tmp_path / "secret").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_privately(tmp_path / "secret", "new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_it_belongs_to_its_owner_from_the_start(tmp_path: Path):
    owner = nobody()
    write_privately(tmp_path / "secret", "new", owner)
    found = (tmp_path / "secret").stat()
    assert ((found.st_uid, found.st_gid), stat.S_IMODE(found.st_mode)) == (owner, 0o600)
