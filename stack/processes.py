"""Processes of this machine, as ``/proc`` shows them (Linux, proc(5)). Elsewhere there are none to see."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")


def family(ancestor: int) -> list[int]:
    """Return the process and all that descend from it, parents first."""
    parents: dict[int, int] = {}
    for entry in _PROC.glob("[0-9]*"):
        with suppress(OSError):
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found = [ancestor]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def lives(pid: int) -> bool:
    """Tell whether the process runs; one that has ended and is not reaped yet does not."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def working_in(folder: Path) -> set[int]:
    """Return the living processes whose working folder this is, as far as we may see."""
    return {pid for pid, place in _links("cwd").items() if place == folder.resolve()}


def running_from(folder: Path) -> set[int]:
    """Return the living processes whose program lies in the folder, as far as we may see."""
    return {pid for pid, program in _links("exe").items() if program.is_relative_to(folder.resolve())}


def _links(name: str) -> dict[int, Path]:
    found = {}
    for process in _PROC.glob("[0-9]*"):
        with suppress(OSError):  # it has ended, is a zombie, or belongs to somebody else
            found[int(process.name)] = (process / name).readlink()
    return found
