"""The environment of a checkout: made once, brought up to date when it must be, and never in silence.

    python -m stack.install VENV

Only the standard library: nothing is installed yet. pip installs what the lock files name (stack.lock), version by
version and hash by hash, and the project itself without asking for anything more. The environment is made anew when
the checkout was moved, since its programs name its folder, or when another interpreter is asked for. Where a C compiler
is, it gets the compiled helpers, too (runtime.native); without one it works all the same.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runtime.native import build
from stack.lock import BUILD, DEV, SERVER
from stack.progress import Progress, Task
from stack.servers.data_dir import DataDir

LOCKS = (BUILD, SERVER, DEV)
_STAMP = ".installed"
_HELPERS = (Path("gateway", "fan.c"),)


def wanted(folder: Path, project: Path) -> dict[str, str]:
    """Return what the environment must have been made from."""
    sources = (project, *LOCKS)
    return {
        "folder": str(folder.absolute()),
        "python": f"{os.path.realpath(sys.executable)} {sys.version.split()[0]}",
        "project": hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest(),
    }


def install(folder: Path, progress: Progress) -> None:
    """Make the environment, and install the project into it with what is locked. Raises SystemExit with what to do."""
    _install(folder, progress)
    for source in filter(Path.is_file, _HELPERS):
        build(source, folder)


def _install(folder: Path, progress: Progress) -> None:
    project, stamp = Path("pyproject.toml"), folder / _STAMP
    need = wanted(folder, project)
    if _read(stamp) == need:
        return
    with project.open() as lock:
        with progress.task("waiting for another make in this folder", done=None):
            fcntl.flock(lock, fcntl.LOCK_EX)
        had = _read(stamp)
        if had == need:
            return
        progress.say(f"setting up {folder} with Python {sys.version.split()[0]}, once")
        if any(had.get(name) != need[name] for name in ("folder", "python")):
            _make(folder, progress)
        stamp.write_text(json.dumps({**need, "project": ""}))  # until pip has ended well
        with progress.task("pip") as task:
            pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check"]
            pip += ["--no-input", "--progress-bar=off"]
            locked = [*pip, "--require-hashes", *(f"--requirement={path}" for path in LOCKS)]
            _run(locked, "the packages could not be installed; is the network there? Call make again to go on", task)
            project_only = [*pip, "--no-deps", "--no-build-isolation", "--editable", "."]
            _run(project_only, "the project could not be installed into its environment", task)
        stamp.write_text(json.dumps(need))


def _make(folder: Path, progress: Progress) -> None:
    if (holder := DataDir(Path(".millrace")).holder()) is not None:
        raise SystemExit(f"{folder} must be made anew, and a stack runs in it (process {holder}): end that first")
    with progress.task("Python environment"):
        base = getattr(sys, "_base_executable", sys.executable)  # ours may be about to be removed
        _run([base, "-m", "venv", "--clear", str(folder)], "no environment could be made", None)


def _run(command: Sequence[str], failure: str, task: Task | None) -> None:
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    lines: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line.rstrip())
        if task is not None:
            task.detail = line.strip()
    if process.wait():
        output = "\n".join(f"  {line}" for line in lines[-15:])
        raise SystemExit(f"{failure}:\n{output}")


def _read(stamp: Path) -> dict[str, Any]:
    try:
        found = json.loads(stamp.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


if __name__ == "__main__":
    try:
        with Progress() as shown:
            install(Path(sys.argv[1]), shown)
    except OSError as exc:
        sys.exit(f"{exc.filename}: {exc.strerror}")
    except KeyboardInterrupt:
        sys.exit(130)
