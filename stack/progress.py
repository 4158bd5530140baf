"""Progress for the person who waits: each task with its time, and never a silence of more than 5 seconds.

Only the standard library: the environment of a checkout is set up with it before anything is installed.

    python -m stack.progress NAME COMMAND …    run a command, and say that it still runs
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType

QUIET_S = 4.0
"""A task that says nothing for so long is named again."""
_LOOK_S = 0.25
_LONGEST = 100


def print_line(line: str) -> None:
    """Write a line to standard error at once; do nothing where nobody reads it any more (a closed terminal)."""
    with suppress(OSError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


@dataclass(slots=True)
class Task:
    """A step under way. ``detail`` describes its present work, and may change at any time, from any thread."""

    name: str
    began: float
    detail: str = ""

    def state(self, now: float) -> str:
        """Return age and detail on one line."""
        detail = " ".join(self.detail.split())
        detail = detail if len(detail) <= _LONGEST else f"{detail[: _LONGEST - 1]}…"
        return f"{now - self.began:.0f} s{f', {detail}' if detail else ''}"


def describe(tasks: Iterable[Task], now: float) -> str:
    """Return all tasks on one line; those that began together and say the same share what is in brackets."""
    groups: dict[str, list[str]] = {}
    for task in tasks:
        groups.setdefault(task.state(now), []).append(task.name)
    return "; ".join(f"{', '.join(names)} ({state})" for state, names in groups.items())


@dataclass(slots=True)
class Progress:
    """Tells a person what happens, through ``write``, each line with the seconds since the beginning.

    Within a ``with`` block a thread prints what is under way when nothing was said for ``quiet_s``, so that lines
    appear while the event loop is blocked, too.
    """

    write: Callable[[str], None] = print_line
    quiet_s: float = QUIET_S
    clock: Callable[[], float] = time.monotonic
    began: float = field(init=False)
    _last: float = field(init=False)
    _tasks: list[Task] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.began = self._last = self.clock()

    def __enter__(self) -> Progress:
        self._thread = threading.Thread(target=self._keep_talking, name="progress", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return self.clock() - self.began

    def say(self, text: str) -> None:
        """Write one line."""
        with self._lock:
            self._last = self.clock()
            self.write(f"{self.seconds:5.1f} s  {text}")

    def printed(self) -> None:
        """Note that something else was printed, so that silence counts from now."""
        self._last = self.clock()

    @contextmanager
    def task(self, name: str, done: str | None = "done") -> Iterator[Task]:
        """Name what the block does while it lasts; at its end say ``done`` and how long it took.

        With ``done=None``, or when the block raises, nothing is said at the end.
        """
        task = Task(name, self.clock())
        with self._lock:
            self._tasks.append(task)
        try:
            yield task
        finally:
            with self._lock:
                self._tasks.remove(task)
        if done is not None:
            self.say(f"{name}: {done} in {self.clock() - task.began:.1f} s")

    def look(self) -> None:
        """Name all that is under way if nothing was said for ``quiet_s``."""
        now = self.clock()
        with self._lock:
            tasks = [] if now - self._last < self.quiet_s else list(self._tasks)
        if tasks:
            self.say(f"… {describe(tasks, now)}")

    def _keep_talking(self) -> None:
        while not self._ended.wait(_LOOK_S):
            self.look()


def silent() -> Progress:
    """Return one that tells nobody."""
    return Progress(write=lambda _: None)


def main(name: str, *command: str) -> int:
    """Run the command with its output as it is; return its exit code."""
    with Progress() as progress, progress.task(name, done=None):
        code = subprocess.run(command, check=False, env={**os.environ, "PYTHONUNBUFFERED": "1"}).returncode
        progress.say(f"{name}: {progress.seconds:.1f} s" if code == 0 else f"{name} failed with code {code}")
    return code


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
