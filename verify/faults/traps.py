"""Faults at one byte: a process is killed between two steps whose order the promise depends on.

Chance hits such a moment in one run of many. So a proxy holds the bytes of the second step, and the process is killed
while they are held; they are never delivered.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from adapters.postgres.statements import load
from ingest.relay import PRODUCER
from stack.processes import family
from verify.fault_proxy import FaultProxy, Trap, TrapAction
from verify.faults.fault import Fault
from verify.faults.network import EDGE
from verify.faults.process import kill, send
from verify.faults.target import NotPossible, Target

_EFFECTS: Mapping[str, tuple[str, str]] = {
    "status": ("statuses", "mark_sent"),
    "notification": ("notifications", "add"),
    "analytics": ("counts", "add"),
    "media": ("media", "save_probe"),
    "search": ("search", "put"),
}
"""Stage → the statement of its effect, by file and name."""
STAGES = tuple(_EFFECTS)
_SPRINGS_S = 10.0
_AGAIN_S = 2.0
"""Until a relay whose connection was cut has published again what it had not marked; a group expels nobody so soon."""
_HELD_S = 8.0
"""A worker commits its offsets every second: what was acknowledged before the effect is committed by then, also on a
busy machine."""


def _set(proxies: Sequence[FaultProxy], pattern: bytes) -> list[Trap]:
    """Have each proxy hold the pattern; return the traps."""
    traps = [Trap(TrapAction.HOLD, pattern=pattern) for _ in proxies]
    for proxy, trap in zip(proxies, traps, strict=True):
        proxy.up.trap = trap
    return traps


async def _hold(traps: Sequence[Trap]) -> None:
    """Return once one of the traps holds its pattern, for a while. Raises NotPossible when it never passes."""
    waiting = [asyncio.create_task(trap.sprung.wait()) for trap in traps]
    done, _ = await asyncio.wait(waiting, timeout=_SPRINGS_S, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    if not done:
        raise NotPossible(f"the bytes that it waits for have not passed in {_SPRINGS_S:.0f} s")
    await asyncio.sleep(_HELD_S)


async def _release(proxies: Sequence[FaultProxy]) -> None:
    """Let everything pass again but what is held."""
    for proxy in proxies:
        proxy.reset()
        await proxy.heal()


async def _kill(target: Target, role: str) -> str:
    """Kill all processes of a role; return the evidence, empty when none was there."""
    killed = [(name, pid) for name, pid in target.living(role) if await kill(family(pid))]
    return ", ".join(f"{name}, process {pid}, ended" for name, pid in killed)


@dataclass(slots=True, kw_only=True)
class KillInEffect(Fault):
    """Kills the workers of a stage while the statement of an effect is on its way to PostgreSQL."""

    role: str
    recover_s: float = 25.0
    _proxies: list[FaultProxy] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name, self.targets = f"kill-{self.role}-in-effect", (self.role, "postgres")
        self.needs = f"{EDGE}postgres"
        self.summary = f"holds what {self.role} writes before PostgreSQL gets it, and kills its workers then"

    async def inject(self, target: Target) -> None:
        self._proxies = target.edges("postgres")
        file, name = _EFFECTS[self.role]
        workers = [pid for _, first in target.living(self.role) for pid in family(first)]
        send(workers, signal.SIGSTOP)
        try:
            # The text of a statement passes when a connection prepares it: all have to prepare anew. The relay does,
            # too, and publishes again what it had not marked: of that the stage would lose nothing.
            for proxy in self._proxies:
                proxy.reset()
            await asyncio.sleep(_AGAIN_S)
            traps = _set(self._proxies, load(file)[name].split("%")[0].encode())
        finally:
            send(workers, signal.SIGCONT)
        await _hold(traps)
        self.evidence = await _kill(target, self.role)

    async def heal(self, target: Target) -> None:
        await _release(self._proxies)
        self._proxies = []


@dataclass(slots=True, kw_only=True)
class KillInAppend(Fault):
    """Kills every ingest while the relay's records are on their way to Kafka."""

    targets: tuple[str, ...] = ("ingest", "kafka")
    recover_s: float = 25.0
    needs: str = f"{EDGE}kafka"
    _proxies: list[FaultProxy] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name = "kill-ingest-in-append"
        self.summary = "holds what the relay writes before Kafka gets it, and kills every ingest then"

    async def inject(self, target: Target) -> None:
        self._proxies = target.edges("kafka")
        await _hold(_set(self._proxies, PRODUCER.encode()))
        self.evidence = await _kill(target, "ingest")

    async def heal(self, target: Target) -> None:
        await _release(self._proxies)
        self._proxies = []


@dataclass(slots=True, kw_only=True)
class KillUnflushed(Fault):
    """Kills PostgreSQL when its WAL writer has been stopped for a while: only what a commit has flushed is left.

    A commit flushes its own records, so it needs no WAL writer; with ``synchronous_commit=off`` it does.
    """

    targets: tuple[str, ...] = ("postgres",)
    recover_s: float = 25.0

    def __post_init__(self) -> None:
        self.name = "kill-postgres-unflushed"
        self.summary = f"stops the WAL writer of PostgreSQL for {_HELD_S:.0f} s, then kills the server"

    async def inject(self, target: Target) -> None:
        name, pid = target.choose("postgres")
        writers = [process for process in family(pid) if b"walwriter" in _command(process)]
        if not writers:
            raise NotPossible("PostgreSQL has no WAL writer")
        send(writers, signal.SIGSTOP)
        await asyncio.sleep(_HELD_S)
        if await kill(family(pid)):
            self.evidence = f"{name}, process {pid}, ended"


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
