"""The data folder of a stack: one supervisor at a time, enough room, secrets that only their owner reads."""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from stack.errors import StackError

_ROOM = 512 * 1024 * 1024
_LOCK_S = 1.0


@dataclass(frozen=True, slots=True)
class DataDir:
    """The folder that holds all data, logs and secrets of a stack."""

    path: Path

    @property
    def logs(self) -> Path:
        """The folder of the logs, a file for each process."""
        return self.path / "logs"

    def prepare(self) -> None:
        """Make the folder. Raises StackError when it cannot be written or the disk is full."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for name in ("logs", "secrets", "media"):
                part = self.path / name
                part.mkdir(exist_ok=True)
                part.chmod(0o700)
        except OSError as exc:
            raise StackError(f"{self.path} cannot be written ({exc.strerror}); choose another with --data") from exc
        require_room(self.path)

    def secret(self, name: str) -> str:
        """Return a secret, made at its first use and kept with mode 0600."""
        file = self.path / "secrets" / name
        if not file.exists() or not file.read_text():
            write_privately(file, secrets.token_hex(24))
        return file.read_text()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder. Raises StackError when another supervisor does."""
        with (self.path / "lock").open("a+") as lock:
            self._lock(lock)
            lock.seek(0)
            lock.truncate()
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    def _lock(self, lock: TextIO) -> None:
        deadline = time.monotonic() + _LOCK_S
        while True:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                # ``holder`` takes the lock for an instant: that is no supervisor.
                if time.monotonic() > deadline:
                    lock.seek(0)
                    raise StackError(
                        f"a stack runs in {self.path} already (process {lock.read().strip() or 'unknown'});"
                        " use it, or end it with `millrace down`"
                    ) from exc
                time.sleep(0.02)

    def holder(self) -> int | None:
        """Return the process id of the supervisor that runs here now, or None."""
        try:
            with (self.path / "lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except BlockingIOError:
            text = (self.path / "lock").read_text().strip()
            return int(text) if text.isdigit() else None
        return None

    def read(self, name: str) -> dict[str, Any]:
        """Return a JSON file of the folder; an empty dict when the file is missing or half-written."""
        try:
            found = json.loads((self.path / name).read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Replace a JSON file, at once and privately."""
        write_privately(self.path / name, json.dumps(content, indent=1))


def require_room(path: Path) -> None:
    """Raise StackError when the disk of this folder is nearly full."""
    free = shutil.disk_usage(path).free
    if free < _ROOM:
        raise StackError(
            f"only {free // 2**20} MB are free on the disk of {path}; {_ROOM // 2**20} MB are needed: make room"
        )


def write_privately(file: Path, text: str, owner: tuple[int, int] | None = None) -> None:
    """Replace a file by one with mode 0600, of ``owner`` (user and group) if one is given; a reader sees the old or the
    new one, whole.

    The folder may belong to another user: what that one puts under the name beforehand is neither opened nor followed.
    """
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
            if owner is not None:
                os.fchown(out.fileno(), *owner)
        beside.replace(file)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def nobody() -> tuple[int, int] | None:
    """Return user and group for servers that refuse root; None when we are not root. Raises StackError."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError as exc:
        raise StackError(
            "PostgreSQL refuses to run as root, and there is no user nobody to run it: add one, run millrace as an"
            " ordinary user, or give a server with MILLRACE_PG__DSN"
        ) from exc
    return entry.pw_uid, entry.pw_gid


def reachable_by_others(path: Path) -> bool:
    """Return whether any user can pass through all the folders above this one."""
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)


def move_into_place(made: Path, place: Path) -> None:
    """Rename a complete folder to its final name, which only an empty folder may have taken."""
    if place.exists():
        place.rmdir()
    made.rename(place)
