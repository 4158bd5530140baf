"""Faults of disks: the one on which a server writes is full.

What a server writes is moved to a small disk in memory, which is mounted in its place, then filled, and moved back. It
needs root, and a stack with mounts of its own (``verify.testbed``), so that nothing stays mounted whatever happens. A
limit on the size of files (RLIMIT_FSIZE) would not do: it is another error (EFBIG, SIGXFSZ) than that of a full disk
(ENOSPC), and ends the servers.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2

from stack.child import run_to_end
from stack.processes import family
from verify.attacks import Doors
from verify.faults.fault import Fault
from verify.faults.process import kill, send
from verify.faults.storage import storage_of, working_folder
from verify.faults.target import NotPossible, Target

MOUNTS = "mounts"
_SLACK = 24 * 2**20
_PREPARED = 512 * 2**20
_PIECE = 2**20
_BACK_S = 40.0
_LOOK_S = 0.1
_NO_SPACE = (b"No space left on device", b"Short write while writing to the AOF file")
"""Words for it in the logs of servers; the second is Valkey's."""
_UPLOAD = {"tus-resumable": "1.0.0", "upload-length": "1000"}
_INSUFFICIENT_STORAGE = 507

_AWAY = """
mkdir "$1.small"
mount -t tmpfs -o "size=$2" tmpfs "$1.small"
chown --reference="$1" "$1.small"
chmod --reference="$1" "$1.small"
cp -a --sparse=always "$1/." "$1.small/"
mount --move "$1.small" "$1"
rmdir "$1.small"
"""
_BACK = """
mkdir "$1.back"
cp -a --sparse=always "$1/." "$1.back/"
umount -l "$1"
find "$1" -mindepth 1 -delete
cp -a --sparse=always "$1.back/." "$1/"
rm -rf "$1.back"
"""


def _log_of_postgres(pid: int, _: Path) -> Path:
    argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return Path(argv[argv.index(b"-D") + 1].decode()) / "pg_wal"


PLACES: Mapping[str, Callable[[int, Path], Path]] = {
    "postgres": _log_of_postgres,
    "kafka": lambda pid, _: storage_of(pid),
    "valkey": lambda pid, _: working_folder(pid),
    "ingest": lambda _, data: data / "media",
}
"""Folder that a process writes to, by its role: given its process id and the data folder of the stack."""
_WITHOUT_RESTART = frozenset({"ingest"})
"""Roles that keep no file open from one request to the next."""


@dataclass(slots=True, kw_only=True)
class FullDisk(Fault):
    """Fills the disk on which a server writes."""

    role: str
    lasts_s: float = 12.0
    recover_s: float = 40.0
    needs: str = MOUNTS
    _name: str = ""
    _folder: Path | None = None
    _filler: Path | None = None
    _log: Path | None = None
    _log_size: int = 0

    def __post_init__(self) -> None:
        self.name, self.targets = f"full-{'media' if self.role == 'ingest' else self.role}", (self.role,)
        what = {"postgres": "the log of PostgreSQL", "ingest": "uploads"}.get(self.role, f"a {self.role}")
        self.summary = f"fills the disk of {what} for {self.lasts_s:.0f} s"

    async def inject(self, target: Target) -> None:
        self._name, pid = target.choose(self.role)
        folder = PLACES[self.role](pid, target.data).resolve()
        if shutil.disk_usage(folder).total > _PREPARED:  # else somebody has prepared it for this
            _require_own_mounts(target)
            self._folder = folder
            if not await self._move(target, _AWAY, str(await _size(folder) + _SLACK)):
                raise NotPossible(f"{self._name} has not started on its small disk")
            folder = Path(f"/proc/{target.supervisor}/root{folder}")
        self._log = target.data / "logs" / f"{self._name}.log"
        self._log_size = self._log.stat().st_size if self._log.exists() else 0
        self._filler = folder / "filler"
        await asyncio.to_thread(_fill, self._filler)
        if self.role in _WITHOUT_RESTART and target.doors is not None and await _refuses_uploads(target.doors):
            self.evidence = "an upload was answered 507"

    async def is_told(self) -> bool:
        """Return whether the log of the server says by now that there is no space."""
        return self._log is not None and await asyncio.to_thread(_tells, self._log, self._log_size)

    async def _move(self, target: Target, script: str, *arguments: str) -> bool:
        """Move the files while neither the server nor the supervisor runs; then return whether the server starts anew.

        Raises NotPossible.
        """
        assert target.supervisor is not None
        before = target.pid_of(self._name)
        stopped = family(before) if before is not None and self.role not in _WITHOUT_RESTART else []
        command = ["nsenter", f"--target={target.supervisor}", "--mount", "sh", "-ec", script, "sh", str(self._folder)]
        send([target.supervisor, *stopped], signal.SIGSTOP)
        try:
            code, output = await run_to_end([*command, *arguments], env=os.environ)
        finally:
            await kill(stopped)
            send([target.supervisor], signal.SIGCONT)
        if code:
            raise NotPossible(f"no small disk could be mounted: {output.strip()[-300:]}")
        return not stopped or await self._is_back(target, before)

    async def _is_back(self, target: Target, before: int | None) -> bool:
        """Wait for the server to start anew; return False when it does not in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_BACK_S):
                while True:
                    process = next((p for p in target.processes() if p.name == self._name), None)
                    if process and process.pid not in (None, before) and await _listens(process.port or 0):
                        return True
                    await asyncio.sleep(_LOOK_S)
        return False

    async def heal(self, target: Target) -> None:
        if self._filler is not None:
            self._filler.unlink(missing_ok=True)
            self._filler = None
            if await self.is_told():
                self.evidence = f"{self._name} found no space"
        if self._folder is not None:
            folder, self._folder = self._folder, None
            if _is_mounted(folder, target.supervisor):
                self._folder = folder
                await self._move(target, _BACK)
                self._folder = None


def _require_own_mounts(target: Target) -> None:
    """Raise NotPossible when the mounts of the stack are those of everybody."""
    if target.supervisor is None or os.geteuid() != 0:
        raise NotPossible("only root may mount a small disk")
    ours, theirs = (Path(f"/proc/{pid}/ns/mnt").readlink() for pid in ("self", target.supervisor))
    if ours == theirs:
        raise NotPossible("the stack has no mounts of its own")


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def _is_mounted(folder: Path, supervisor: int | None) -> bool:
    try:
        lines = Path(f"/proc/{supervisor}/mounts").read_text().splitlines()
    except OSError:  # it has ended, and its mounts with it
        return False
    return str(folder) in (line.split()[1] for line in lines)


async def _size(folder: Path) -> int:
    code, output = await run_to_end(["du", "-s", "--block-size=1", str(folder)], env=os.environ)
    if code:
        raise NotPossible(f"the size of {folder} is not known: {output.strip()[-300:]}")
    return int(output.split()[0])


def _tells(log: Path, since: int) -> bool:
    """Return whether a log says, after so many bytes, that there was no space."""
    content = log.read_bytes()
    fresh = content[since if since <= len(content) else 0 :]
    return any(words in fresh for words in _NO_SPACE)


async def _refuses_uploads(doors: Doors) -> bool:
    with suppress(httpx2.HTTPError):
        async with doors.client(1) as client:
            return (await client.post("/media", headers=_UPLOAD)).status_code == _INSUFFICIENT_STORAGE
    return False


def _fill(file: Path) -> None:
    with file.open("wb", buffering=0) as out:
        size = _PIECE
        while size:
            try:
                out.write(bytes(size))
            except OSError as exc:
                if exc.errno != errno.ENOSPC:
                    raise
                size //= 2
        os.fsync(out.fileno())
