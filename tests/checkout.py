"""Fresh checkouts: copies of this one, with nothing in them but its files, used as somebody uses a clone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from stack.child import end_with_parent
from stack.processes import family, lives
from stack.servers.data_dir import DataDir
from stack.servers.postgres_files import data_outside

ROOT = Path(__file__).parents[1]
READY = "Ctrl-C ends everything"
_MADE = (".git", ".venv", ".millrace", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info", "dist", ".built")
# Variables of this run, of make and of our home; a fresh checkout must not see them.
_OURS = ("MILLRACE_", "PYTEST", "MAKE", "MFLAGS", "XDG_", "COVERAGE")
_NAMES = ("HOME", "VIRTUAL_ENV", "PYTHON", "UP", "TESTS", "ONLY", "PAIRS", "PYTHONPATH", "CDPATH", "OLDPWD")


def bare_environment() -> dict[str, str]:
    """Return our environment without a home and without what concerns this run only."""
    return {k: v for k, v in os.environ.items() if not k.startswith(_OURS) and k not in _NAMES}


def give(folder: Path, user: tuple[int, int] | None) -> None:
    """Let a folder and all in it belong to the user."""
    for path in (folder, *folder.rglob("*")) if user is not None else ():
        os.chown(path, *user, follow_symlinks=False)


@dataclass
class Running:
    """A ``make up``: what it said, line by line, each with the moment when it came."""

    process: subprocess.Popen[str]
    lines: list[tuple[float, str]] = field(default_factory=list)

    def follow(self) -> None:
        """Read until the process ends."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append((time.monotonic(), line.rstrip("\n")))

    @property
    def text(self) -> str:
        return "\n".join(line for _, line in self.lines)

    def is_ready(self) -> bool:
        return any(READY in line for _, line in self.lines)


@dataclass
class Checkout:
    """A folder with the files of this checkout. ``user``: who works in it; None for ourselves."""

    folder: Path
    env: Mapping[str, str]
    user: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        shutil.copytree(ROOT, self.folder, ignore=shutil.ignore_patterns(*_MADE), symlinks=True)
        self.folder.chmod(0o700)
        give(self.folder, self.user)

    def popen(self, *command: str | Path) -> subprocess.Popen[str]:
        """Start a command in the folder; it ends with us."""
        us, user = os.getpid(), self.user
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=dict(self.env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            user=user and user[0],
            group=user and user[1],
            extra_groups=None if user is None else [],
            preexec_fn=lambda: end_with_parent(us),
        )

    def run(self, *command: str | Path) -> str:
        """Run a command that must end well; return what it said."""
        process = self.popen(*command)
        said, _ = process.communicate()
        assert process.returncode == 0, f"{command} ended with {process.returncode}:\n{said[-6000:]}"
        return said

    @contextmanager
    def up(self, *words: str) -> Iterator[Running]:
        """``make up``, ready; interrupted afterwards as by Ctrl-C. Nothing that it started is left then."""
        running = Running(self.popen("make", "up", *words))
        follower = threading.Thread(target=running.follow)
        follower.start()
        try:
            while not running.is_ready():
                assert running.process.poll() is None, running.text[-6000:]
                time.sleep(0.05)
            members = family(running.process.pid)
            yield running
        finally:
            if running.process.poll() is None:
                os.killpg(running.process.pid, signal.SIGINT)
            running.process.wait()
            follower.join()
        assert not [pid for pid in members if lives(pid)], "processes are left"

    def remove(self) -> None:
        """Remove the data that lies outside the folder, too."""
        for data in data_outside(DataDir(self.folder / ".millrace")):
            shutil.rmtree(data)
        shutil.rmtree(self.folder)
