"""Keep children running: start them, wait until they are ready, restart those that die, stop all."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from domain.errors import Unavailable
from stack.child import Child, spawn
from stack.errors import OperatorError, StackError
from stack.log_files import rotate
from stack.processes import family
from stack.progress import Progress, silent
from stack.silence import Silence
from stack.standstill import Standstill

FIRST_BACKOFF_S, MOST_BACKOFF_S, STEADY_S = 0.2, 5.0, 10.0
_GIVE_UP_BEFORE_READY = 4
_POLL_S = 0.05
_SILENT = "does not answer"
_ENDS_KEPT = 500


def backoff(before: float, lived_s: float) -> float:
    """Return the seconds to wait before the next restart: doubled each time, reset after a steady life."""
    return FIRST_BACKOFF_S if lived_s >= STEADY_S else min(before * 2, MOST_BACKOFF_S)


@dataclass(frozen=True, slots=True)
class End:
    """The end of a process that nobody had asked for. A negative ``code`` is the number of a signal."""

    name: str
    code: int
    at: str


@dataclass(slots=True)
class Running:
    """A child and its present state."""

    child: Child
    process: asyncio.subprocess.Process | None = None
    restarts: int = 0
    failures: int = 0
    """Restarts with no cause but the process itself."""
    was_ready: bool = False
    trouble: str | None = None
    """What is wrong with the process although it lives; None while nothing is."""
    stopping: bool = False
    task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, while it lives."""
        alive = self.process is not None and self.process.returncode is None
        return self.process.pid if self.process is not None and alive else None


@dataclass(slots=True)
class Supervisor:
    """Supervises children, in the order of their start.

    ``changed`` is called whenever a process starts, ends, or gets into trouble. ``progress`` shows each that is
    starting, and each that was ready and restarts. ``lacks_servers`` returns whether a server is still being prepared;
    a process of ours that waits for that server, or ends because of it, is not given up. ``examine_s``: seconds between
    looks at a child; ``noted_s``: seconds after which the silence of a child is shown.
    """

    changed: Callable[[], None] = lambda: None
    progress: Progress = field(default_factory=silent)
    lacks_servers: Callable[[], bool] = lambda: False
    examine_s: float = 5.0
    noted_s: float = 10.0
    children: list[Running] = field(default_factory=list)
    ends: deque[End] = field(default_factory=lambda: deque(maxlen=_ENDS_KEPT))
    """The last processes that ended and were not told to by us."""

    async def start(self, children: Sequence[Child]) -> None:
        """Start the children together; return when all are ready. Raises StackError, with the last log lines."""
        begun = [Running(child) for child in children]
        self.children += begun
        for running in begun:
            running.task = asyncio.create_task(self._keep(running))
        await asyncio.gather(*(self._until_ready(running) for running in begun))

    async def _keep(self, running: Running) -> None:
        clock, wait, end = asyncio.get_running_loop().time, FIRST_BACKOFF_S / 2, ""
        while not running.stopping:
            began = clock()
            before, end = end, await self._live(running)
            if self._is_over(running):
                return
            wait = backoff(wait, clock() - began)
            if running.was_ready and not (running.trouble and end == before):
                self.progress.say(f"{running.child.name} {end}; it restarts in {wait:.1f} s, see {running.child.log}")
            running.failures += not self._lacks_its_servers(running)
            await asyncio.sleep(wait)
            running.restarts += 1

    async def _live(self, running: Running) -> str:
        """Run the child until it ends; return how it ended."""
        try:
            if running.child.prepare is not None:
                await running.child.prepare()
            running.process = await spawn(running.child)
        except (OSError, StackError, Unavailable) as exc:  # no memory, a server that it needs does not answer …
            reason = exc.strerror if isinstance(exc, OSError) else exc
            self._note_trouble(running, f"could not be started ({reason})")
            return f"could not be started ({reason})"
        running.trouble = None
        self.changed()
        watching = [
            asyncio.create_task(watch(running))
            for watch in (self._examine, self._listen_for, self._rejoin, self._rotate)
        ]
        code = await running.process.wait()
        for task in watching:
            task.cancel()
        running.trouble = None
        if not self._is_over(running):
            self.ends.append(End(running.child.name, code, datetime.now(UTC).isoformat(timespec="milliseconds")))
        self.changed()
        return f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"

    async def _examine(self, running: Running) -> None:
        """Stop a child that is not healthy any more; it is killed when it does not stop."""
        check = running.child.health and running.child.health()
        while check is not None:
            await asyncio.sleep(self.examine_s)
            if reason := await check():
                self._note_trouble(running, reason)
                self.progress.say(f"{running.child.name} {reason}; it restarts")
                _signal(running, running.child.stop_signal)
                await asyncio.sleep(running.child.stop_s)  # cancelled when it ends
                _kill_family(running)

    async def _listen_for(self, running: Running) -> None:
        """Kill a child that answers nothing any more, with all that it started: these may stand still, too."""
        if running.child.alive is None:
            return
        silence = Silence(running.child.alive, running.child.ready_s)
        while True:
            await asyncio.sleep(self.examine_s)
            if running.pid is None:
                return
            if reason := await silence.reason(running.pid):
                self.progress.say(f"{running.child.name} {reason}; it is killed and restarts")
                _kill_family(running)
            if silence.silent_s >= self.noted_s:
                self._note_trouble(running, _SILENT)
            elif running.trouble == _SILENT:
                self._note_trouble(running, None)

    async def _rejoin(self, running: Running) -> None:
        """Let a child that has restarted join the others again, once it is ready."""
        if running.child.rejoin is None or not running.restarts:
            return None
        while True:
            await asyncio.sleep(_POLL_S)
            if await running.child.ready():
                try:
                    return await running.child.rejoin()
                except (StackError, OperatorError, Unavailable) as exc:
                    self.progress.say(f"{running.child.name} cannot join the others ({exc}); it tries again")
                    await asyncio.sleep(self.examine_s)

    def _note_trouble(self, running: Running, trouble: str | None) -> None:
        if trouble != running.trouble:
            running.trouble = trouble
            self.changed()

    async def _rotate(self, running: Running) -> None:
        while True:
            await asyncio.sleep(self.examine_s)
            with suppress(OSError):
                await asyncio.to_thread(rotate, running.child.log)

    def _lacks_its_servers(self, running: Running) -> bool:
        return running.child.kind != "server" and self.lacks_servers()

    @staticmethod
    def _is_over(running: Running) -> bool:
        return running.stopping  # set by others while a process lived

    async def _until_ready(self, running: Running) -> None:
        child, standstill = running.child, Standstill(running.child.ready_s)
        with self.progress.task(child.name, done="ready") as task:
            while not (running.pid and await child.ready()):
                if running.failures >= _GIVE_UP_BEFORE_READY:
                    raise StackError(f"{child.name} exited right after its start. Last log lines:\n{_log_tail(child)}")
                if running.restarts:
                    task.detail = f"restarts: {running.restarts}"
                # A child is not judged while it, or a broker that it needs, is being prepared.
                pid = None if self._lacks_its_servers(running) else running.pid
                if pid and (reason := standstill.reason([pid])):
                    raise StackError(f"{child.name} {reason} and is not ready. Last log lines:\n{_log_tail(child)}")
                await asyncio.sleep(_POLL_S)
        running.was_ready = True

    async def stop(self) -> None:
        """Stop our own processes together, then the proxy, then the servers. Bounded in time."""
        for kinds in (("front", "stage"), ("proxy",), ("server",)):
            await asyncio.gather(*(self._stop(r) for r in self.children if r.child.kind in kinds))

    async def _stop(self, running: Running) -> None:
        running.stopping = True
        _signal(running, running.child.stop_signal)
        if running.task is None:
            return
        if running.pid is None:
            running.task.cancel()
        done, _ = await asyncio.wait({running.task}, timeout=running.child.stop_s)
        if not done:
            _kill_family(running)
            await asyncio.wait({running.task}, timeout=5)

    def kill(self) -> None:
        """Kill all children now."""
        for running in self.children:
            running.stopping = True
            _kill_family(running)


def _signal(running: Running, number: int) -> None:
    if running.pid is not None:
        with suppress(ProcessLookupError):
            os.kill(running.pid, number)


def _kill_family(running: Running) -> None:
    """Kill the process and its descendants: one that is stopped would outlive the process that started it."""
    for pid in [] if running.pid is None else family(running.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _log_tail(child: Child, lines: int = 12) -> str:
    try:
        text = child.log.read_text(errors="replace")
    except OSError:
        return "(no log)"
    return "\n".join(f"  {line[:300]}" for line in text.splitlines()[-lines:])
