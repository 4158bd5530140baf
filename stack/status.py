"""``millrace status`` and ``down``: inspect and end a stack from outside."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from typing import Any

from runtime.health import WARNING
from runtime.terminal import print_table, visible
from stack.errors import OperatorError
from stack.probes import answers, body_of
from stack.replica_reads import READERS, in_words, replica_reads
from stack.running import STATE
from stack.servers.data_dir import DataDir
from stack.topology import role

_DOWN_S = 90.0


async def inspect(folder: DataDir) -> dict[str, Any]:
    """Return the state of the stack; every process is asked now. Processes that were left out do not count."""
    state, holder = folder.read(STATE), folder.holder()
    if holder is None:
        return {"state": "stopped", "urls": {}, "processes": [], "dataDir": str(folder.path)}
    if state.get("pid") != holder:
        state = {}  # this supervisor has not written its own yet
    processes = await asyncio.gather(*(_process(p) for p in state.get("processes", [])))
    warnings = sorted({warning for p in processes for warning in p["warnings"]})
    up = bool(state.get("ready")) and all(p["state"] == "ready" for p in processes) and not warnings
    name = "ready" if up else "degraded" if state.get("ready") else "starting"
    return {
        "state": name,
        "warnings": warnings,
        "replica": await _replica(processes),
        "urls": state.get("urls", {}),
        "processes": [*processes, *await asyncio.gather(*(_left_out(p) for p in state.get("leftOut", [])))],
        "dataDir": str(folder.path),
        "supervisor": holder,
        "started": state.get("started"),
        "ends": state.get("ends", []),
    }


async def _replica(processes: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return how far the replica is and what share of reads it answers; None where nothing reads from one."""
    ports = [p["opsPort"] for p in processes if p["opsPort"] is not None and role(p["name"]) in READERS]
    texts = await asyncio.gather(*(body_of(port, "/metrics") for port in ports))
    return replica_reads(text for text in texts if text is not None)


async def _process(process: dict[str, Any]) -> dict[str, Any]:
    warnings: list[str] = []
    if process["pid"] is None and process["kind"] != "given":
        found = "down"
    elif process["opsPort"] is not None:
        body = await body_of(process["opsPort"], "/readyz")
        found = "ready" if body is not None else "not ready"
        warnings = [line.removeprefix(WARNING) for line in (body or "").splitlines() if line.startswith(WARNING)]
    else:
        listens = await answers(process["port"], host=process.get("host", "127.0.0.1"))
        found = "ready" if listens else "not ready"
    if trouble := process.get("trouble"):
        found = "not ready" if found == "ready" else found
        warnings = [*warnings, f"{process['name']} {trouble}"]
    return {**process, "state": found, "warnings": warnings}


async def _left_out(process: dict[str, Any]) -> dict[str, Any]:
    by_hand = await answers(process["opsPort"], "/readyz")
    state = "started by hand" if by_hand else "left out"
    return {**process, "kind": "left out", "pid": None, "log": None, "restarts": 0, "state": state}


def show(found: dict[str, Any]) -> None:
    """Print the state as a table."""
    print(f"{found['state']}  {visible(found['dataDir'])}")
    for warning in found.get("warnings", ()):
        print(f"  warning: {visible(warning)}")
    if found.get("replica"):
        print(f"  replica: {in_words(found['replica'])}")
    for name, url in found["urls"].items():
        print(f"  {name:5}{visible(url)}")
    if not found["processes"]:
        return
    rows = [
        (p["name"], p["state"], p["pid"] or "-", p.get("restarts", "-"), p["log"] or _no_log(p["kind"]))
        for p in found["processes"]
    ]
    print_table(("process", "state", "pid", "restarts", "log"), rows)


def _no_log(kind: str) -> str:
    return "given by URL" if kind == "given" else "-"


def down(folder: DataDir) -> None:
    """End the stack and wait for it. Raises OperatorError when it does not end."""
    holder = folder.holder()
    if holder is None:
        print(f"nothing runs in {folder.path}")
        return
    try:
        os.kill(holder, signal.SIGTERM)
    except ProcessLookupError:
        return
    except PermissionError as exc:
        raise OperatorError(f"process {holder} belongs to another user: end it as that user") from exc
    deadline = time.monotonic() + _DOWN_S
    while folder.holder() is not None:
        if time.monotonic() > deadline:
            raise OperatorError(f"process {holder} has not ended within {_DOWN_S:.0f} s; see {folder.logs}, or kill it")
        time.sleep(0.05)
    print("everything has ended; the data stays")
