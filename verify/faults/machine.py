"""Faults of the machine: a disk that is full, a clock that steps."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from verify.fake_clock import set_clock
from verify.faults.target import NotPossible, Target

_MOST = 512 * 2**20
_PIECE = 2**20


@dataclass(slots=True)
class FullDisk:
    """Fills the small disk on which PostgreSQL writes its log.

    Only a disk that was made for this, as by ``mount -t tmpfs -o size=64m tmpfs …/pg_wal`` before the first start, is
    ever filled.
    """

    name: str = "full-disk"
    targets: tuple[str, ...] = ("postgres",)
    lasts_s: float = 10.0
    recover_s: float = 60.0
    single_process: bool = False
    _filler: Path | None = None

    async def inject(self, target: Target) -> None:
        _, pid = target.choose("postgres")
        self._filler = _place(pid)
        await asyncio.to_thread(_fill, self._filler)

    async def heal(self, target: Target) -> None:
        if self._filler is not None:
            self._filler.unlink(missing_ok=True)
            self._filler = None


def _place(postgres: int) -> Path:
    """Return the file to write until the disk is full. Raises NotPossible when others use that disk."""
    argv = Path(f"/proc/{postgres}/cmdline").read_bytes().split(b"\0")
    log = (Path(argv[argv.index(b"-D") + 1].decode()) / "pg_wal").resolve()
    if shutil.disk_usage(log).total > _MOST:
        raise NotPossible(f"{log} is on no small disk of its own: mount a tmpfs there before the first start")
    return log.parent / "filler"


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


@dataclass(slots=True)
class StepClock:
    """Steps the wall clock of one process; its monotonic clock stays true."""

    role: str
    step_s: int
    name: str = field(init=False)
    lasts_s: float = 20.0
    recover_s: float = 15.0
    single_process: bool = False
    _node: str | None = None

    def __post_init__(self) -> None:
        self.name = f"clock-{self.role}"

    @property
    def targets(self) -> tuple[str, ...]:
        return (self.role,)

    async def inject(self, target: Target) -> None:
        if target.clocks is None:
            raise NotPossible("the processes were not started by verify.fake_clock")
        nodes = [node.name for node in sorted(target.clocks.iterdir()) if node.name.startswith(f"{self.role}-")]
        if not nodes:
            raise NotPossible(f"no {self.role} runs under a clock of its own")
        self._node = target.rng.choice(nodes)
        set_clock(target.clocks, self._node, self.step_s)

    async def heal(self, target: Target) -> None:
        if self._node is not None and target.clocks is not None:
            set_clock(target.clocks, self._node, 0)
            self._node = None
