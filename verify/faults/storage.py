"""Faults of storage: a server loses it, or, of brokers, the one that leads most of it is killed."""

from __future__ import annotations

import asyncio
import shutil
import signal
import uuid
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path

from domain.errors import Unavailable
from stack.child import run_to_end
from stack.processes import family
from verify.faults.fault import Fault
from verify.faults.process import kill, send
from verify.faults.target import NotPossible, Target


@dataclass(slots=True, kw_only=True)
class WipeBroker(Fault):
    """Kills a broker, which comes back with empty storage, as after a lost disk. Alone, it is a new cluster without any
    data; among others, it is the same member."""

    targets: tuple[str, ...] = ("kafka",)
    recover_s: float = 60.0

    def __post_init__(self) -> None:
        self.name = "wipe-kafka"
        self.summary = "kills a broker, which comes back with empty storage"

    async def inject(self, target: Target) -> None:
        name, pid = target.choose("kafka")
        alone = len(target.living("kafka")) == 1
        storage, empty = await self._formatted(pid, alone)
        lost = storage.with_name(f"{storage.name}.lost")
        shutil.rmtree(lost, ignore_errors=True)
        broker = family(pid)
        send(broker, signal.SIGSTOP)  # so that it writes nothing by name into the new one
        storage.rename(lost)
        empty.rename(storage)
        if await kill(broker):
            size = await asyncio.to_thread(_size, lost)
            self.evidence = f"{name}, process {pid}, ended and lost {size // 1024} kB"
        await asyncio.to_thread(shutil.rmtree, lost)

    async def _formatted(self, pid: int, alone: bool) -> tuple[Path, Path]:
        """Return the broker's storage, and an empty one beside it, formatted with the broker's own settings."""
        argv, (cwd, config) = _argv(pid), _configuration(pid)
        settings = _settings(config)
        storage = cwd / settings["log.dirs"]
        empty = storage.with_name(f"{storage.name}.empty")
        shutil.rmtree(empty, ignore_errors=True)
        beside = config.with_name(f"{config.name}.empty")
        beside.write_text("".join(f"{k}={v}\n" for k, v in {**settings, "log.dirs": str(empty)}.items()))
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=") if alone else _cluster_id(storage)
        tool = [*argv[: argv.index("kafka.Kafka")], "kafka.tools.StorageTool", "format"]
        code, output = await run_to_end([*tool, f"--cluster-id={cluster}", "-c", str(beside)], env={}, cwd=cwd)
        beside.unlink()
        if code:
            raise NotPossible(f"a new storage could not be formatted: {output.strip()[-300:]}")
        return storage, empty


def _cluster_id(storage: Path) -> str:
    lines = (storage / "meta.properties").read_text().splitlines()
    return next(line.removeprefix("cluster.id=") for line in lines if line.startswith("cluster.id="))


def _size(folder: Path) -> int:
    """Return the number of bytes that the files of a folder occupy."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))


@dataclass(slots=True, kw_only=True)
class LoseFolder(Fault):
    """Removes the storage of a server that runs, as a clean-up job of the machine may do."""

    role: str
    recover_s: float = 60.0

    def __post_init__(self) -> None:
        self.name, self.targets = f"lost-folder-{self.role}", (self.role,)
        self.summary = f"removes the storage of a {self.role} while it runs"

    async def inject(self, target: Target) -> None:
        name, pid = target.choose(self.role)
        storage = storage_of(pid) if self.role == "kafka" else working_folder(pid)
        size = await asyncio.to_thread(_size, storage)
        gone = storage.with_name(f"{storage.name}.gone")
        storage.rename(gone)  # at once, so that nothing is written by name meanwhile
        await asyncio.to_thread(shutil.rmtree, gone)
        self.evidence = f"{name}, process {pid}, lost {size // 1024} kB"


def working_folder(pid: int) -> Path:
    """Return the working folder of a process."""
    return Path(f"/proc/{pid}/cwd").readlink()


def storage_of(broker: int) -> Path:
    """Return the folder of a broker's storage."""
    cwd, config = _configuration(broker)
    return cwd / _settings(config)["log.dirs"]


def _configuration(broker: int) -> tuple[Path, Path]:
    """Return the working folder of a broker, and its configuration."""
    cwd = working_folder(broker)
    return cwd, cwd / _argv(broker)[-1]


def _argv(pid: int) -> list[str]:
    return [part.decode() for part in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]]


def _settings(config: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in config.read_text().splitlines() if "=" in line)


@dataclass(slots=True, kw_only=True)
class KillLeader(Fault):
    """Kills the broker that leads most partitions."""

    targets: tuple[str, ...] = ("kafka",)
    recover_s: float = 25.0
    single_process: bool = True

    def __post_init__(self) -> None:
        self.name = "kill-leader"
        self.summary = "kills the broker that leads most partitions"

    async def inject(self, target: Target) -> None:
        living = dict(target.living("kafka"))
        if not living:
            raise NotPossible("no process kafka of ours runs")
        name = next(iter(living)) if len(living) == 1 else await _leading_broker(target, living)
        if await kill(family(living[name])):
            self.evidence = f"{name}, process {living[name]}, ended"


async def _leading_broker(target: Target, living: dict[str, int]) -> str:
    from adapters.kafka.admin import leaders

    try:
        led = await leaders(target.kafka)
    except Unavailable as exc:
        raise NotPossible("the brokers do not say who leads") from exc
    return max(living, key=lambda name: led[int(name.rpartition("-")[2])])
