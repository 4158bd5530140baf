"""``millrace status``, ``down`` and ``logs``: looking at a stack from outside."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ops.errors import OperatorError
from ops.running import STATE, data_folder
from runtime.stack.child import answers
from runtime.stack.folder import Folder

_DOWN_S = 90.0


async def look(folder: Folder) -> dict[str, Any]:
    """The state of the stack, asked of every process now."""
    state, holder = folder.read(STATE), folder.holder()
    if holder is None:
        return {"state": "stopped", "urls": {}, "processes": [], "dataDir": str(folder.path)}
    processes = await asyncio.gather(*(_process(p) for p in state.get("processes", [])))
    up = bool(state.get("ready")) and all(p["state"] == "ready" for p in processes)
    name = "ready" if up else "degraded" if state.get("ready") else "starting"
    return {
        "state": name,
        "urls": state.get("urls", {}),
        "processes": processes,
        "dataDir": str(folder.path),
        "supervisor": holder,
    }


async def _process(process: dict[str, Any]) -> dict[str, Any]:
    if process["pid"] is None:
        found = "down"
    elif process["opsPort"] is None:
        found = "ready"
    else:
        found = "ready" if await answers(process["opsPort"], "/readyz") else "not ready"
    return {**process, "state": found}


def show(found: dict[str, Any]) -> None:
    """For people."""
    out = Console()
    out.print(f"{found['state']}  {found['dataDir']}", highlight=False)
    for name, url in found["urls"].items():
        out.print(f"  {name:5}{url}", highlight=False)
    if not found["processes"]:
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("process", "state", "pid", "restarts", "log"):
        table.add_column(column, overflow="fold")
    for p in found["processes"]:
        table.add_row(p["name"], p["state"], str(p["pid"] or "-"), str(p["restarts"]), p["log"])
    out.print(table)


def down(folder: Folder) -> None:
    """End the stack and wait for it. Raises OperatorError when it does not end."""
    holder = folder.holder()
    if holder is None:
        print(f"nothing runs in {folder.path}")
        return
    os.kill(holder, signal.SIGTERM)
    deadline = time.monotonic() + _DOWN_S
    while folder.holder() is not None:
        if time.monotonic() > deadline:
            raise OperatorError(f"process {holder} has not ended in {_DOWN_S:.0f} s; see {folder.logs}, or kill it")
        time.sleep(0.05)
    print("everything has ended; the data stays")


def logs(data: Path | None, name: str | None, *, follow: bool, lines: int) -> None:
    """Print the last lines of one log or of all, and what comes after them. Raises OperatorError."""
    folder = data_folder(data)
    files = sorted(folder.logs.glob("*.log")) if name is None else [folder.logs / f"{name}.log"]
    if not files or not files[0].exists():
        known = ", ".join(sorted(f.stem for f in folder.logs.glob("*.log"))) or "none yet"
        raise OperatorError(f"no log {name or ''} in {folder.logs}; there is: {known}")
    prefix = len(files) > 1
    offsets = {file: file.stat().st_size for file in files}
    for file in files:
        for line in file.read_text(errors="replace").splitlines()[-lines:]:
            _print(file, line, prefix)
    while follow:
        _follow(files, offsets, prefix)
        time.sleep(0.2)


def _follow(files: Sequence[Path], offsets: dict[Path, int], prefix: bool) -> None:
    for file in files:
        for line in _new_lines(file, offsets):
            _print(file, line, prefix)
    sys.stdout.flush()


def _new_lines(file: Path, offsets: dict[Path, int]) -> Iterator[str]:
    size = file.stat().st_size
    start = min(offsets[file], size)  # a shorter file was begun anew
    with file.open("rb") as log:
        log.seek(start)
        whole, _, _ = log.read(size - start).rpartition(b"\n")
    offsets[file] = start + (len(whole) + 1 if whole else 0)
    if whole:
        yield from whole.decode(errors="replace").splitlines()


def _print(file: Path, line: str, prefix: bool) -> None:
    print(f"{file.stem:13} {line}" if prefix else line)
