"""Faults that know a server: a broker that loses its storage or its leaders, Redis that forgets or hangs up."""

from __future__ import annotations

import asyncio
import shutil
import signal
import uuid
from base64 import urlsafe_b64encode
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from domain.errors import Unavailable
from stack.child import run_to_end
from stack.processes import family, lives
from verify.faults.process import send
from verify.faults.target import NotPossible, Target


@dataclass(slots=True)
class WipeBroker:
    """Kills a broker, which comes back with empty storage, as after a lost disk. Alone, it is a new cluster without any
    data; among others, it is the same member."""

    name: str = "wipe-kafka"
    targets: tuple[str, ...] = ("kafka",)
    lasts_s: float = 0.0
    recover_s: float = 90.0
    single_process: bool = False

    async def inject(self, target: Target) -> None:
        _, pid = target.choose("kafka")
        alone = len(target.living("kafka")) == 1
        storage, empty = await self._formatted(pid, alone)
        lost = storage.with_name(f"{storage.name}.lost")
        shutil.rmtree(lost, ignore_errors=True)
        broker = family(pid)
        send(broker, signal.SIGSTOP)  # so that it writes nothing by name into the new one
        storage.rename(lost)
        empty.rename(storage)
        send(broker, signal.SIGKILL)
        await _ended(pid)
        await asyncio.to_thread(shutil.rmtree, lost)

    async def heal(self, target: Target) -> None:
        """Do nothing: the supervisor starts the process again."""

    async def _formatted(self, pid: int, alone: bool) -> tuple[Path, Path]:
        """Return the broker's storage, and an empty one beside it, formatted with the broker's own settings."""
        proc = Path(f"/proc/{pid}")
        argv = [part.decode() for part in (proc / "cmdline").read_bytes().split(b"\0")[:-1]]
        cwd = (proc / "cwd").readlink()
        config = cwd / argv[-1]
        settings = dict(line.split("=", 1) for line in config.read_text().splitlines() if "=" in line)
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


async def _ended(pid: int) -> None:
    """Wait until the process is gone or only waits for its parent."""
    async with asyncio.timeout(10):
        while lives(pid):  # noqa: ASYNC110 - it is no child of ours
            await asyncio.sleep(0.01)


@dataclass(slots=True)
class KillLeader:
    """Kills the broker that leads most partitions."""

    name: str = "kill-leader"
    targets: tuple[str, ...] = ("kafka",)
    lasts_s: float = 0.0
    recover_s: float = 60.0
    single_process: bool = True

    async def inject(self, target: Target) -> None:
        living = dict(target.living("kafka"))
        if not living:
            raise NotPossible("no process kafka of ours runs")
        name = next(iter(living)) if len(living) == 1 else await _leading_broker(target, living)
        send(family(living[name]), signal.SIGKILL)

    async def heal(self, target: Target) -> None:
        """Do nothing: the supervisor starts the process again."""


async def _leading_broker(target: Target, living: dict[str, int]) -> str:
    from adapters.kafka.admin import leaders

    try:
        led = await leaders(target.kafka)
    except Unavailable as exc:
        raise NotPossible("the brokers do not say who leads") from exc
    return max(living, key=lambda name: led[int(name.rpartition("-")[2])])


@dataclass(slots=True)
class FlushRedis:
    """Empties Redis."""

    name: str = "flush-redis"
    targets: tuple[str, ...] = ("valkey",)
    lasts_s: float = 0.0
    recover_s: float = 45.0
    single_process: bool = False

    async def inject(self, target: Target) -> None:
        await _command(target, "FLUSHALL")

    async def heal(self, target: Target) -> None:
        """Do nothing: leases come back with their next renewal."""


@dataclass(slots=True)
class CutSubscribers:
    """Cuts all subscribers of Redis off, again and again."""

    name: str = "cut-subscribers"
    targets: tuple[str, ...] = ("valkey",)
    lasts_s: float = 5.0
    recover_s: float = 15.0
    single_process: bool = False
    every_s: float = 0.5
    _cutting: asyncio.Task[None] | None = field(default=None)
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    async def inject(self, target: Target) -> None:
        await _command(target, "CLIENT", "KILL", "TYPE", "pubsub")
        self._cutting = asyncio.create_task(self._cut(target))

    async def _cut(self, target: Target) -> None:
        while not self._over.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(self.every_s):
                    await self._over.wait()
            with suppress(NotPossible):
                await _command(target, "CLIENT", "KILL", "TYPE", "pubsub")

    async def heal(self, target: Target) -> None:
        self._over.set()  # not cancelled: in a client's time-out that may be swallowed, and the cutting go on for ever
        if self._cutting is not None:
            await self._cutting
            self._cutting = None


async def _command(target: Target, *words: str) -> None:
    """Send a command to every Redis node. Raises NotPossible when one does not answer."""
    from adapters.redis.client import connect, execute, unavailable_on_outage
    from adapters.redis.client import target as servers_of

    to = servers_of(target.redis_url)
    for address in to.nodes:
        redis = connect(to, address)
        try:
            with unavailable_on_outage():
                await execute(redis, *words)
        except Unavailable as exc:
            raise NotPossible(str(exc)) from exc
        finally:
            await redis.aclose()
