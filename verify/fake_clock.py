"""``python -m verify.fake_clock MODULE ARG…``: a Python module under a clock that can be stepped.

MILLRACE_CLOCKS names a folder with one file for each node (MILLRACE_NODE), which says how many seconds its clock is
ahead; libfaketime reads it. Only ingest and the gateway have such a clock, since libfaketime makes each reading of a
clock, and so each turn of an event loop, many times slower. Where it is not installed, nothing runs: a clock that does
not step proves nothing.
The clock by which durations are measured stays true, else a step back would freeze every timer.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

CLOCKS = "MILLRACE_CLOCKS"
STEPPED = ("ingest", "gateway")
_PLACES = ("usr/lib/*/faketime", "usr/lib/faketime", "usr/lib64/faketime", "usr/local/lib/faketime")
_LIBRARY = "libfaketimeMT.so.1"
_PACKAGE, _IN_PACKAGE = "libfaketime", "vendor/libfaketime/src/libfaketime.so.1"
_ASIDE_S = 1_000_000
_READ_CLOCK = "import time; print(time.time())"


@cache
def library() -> Path | None:
    """Return the path of a libfaketime that works here, of the system or else of PyPI; None without one."""
    return next(filter(_works, _candidates()), None)


def _candidates() -> Iterator[Path]:
    for place in _PLACES:
        yield from Path("/").glob(f"{place}/{_LIBRARY}")
    package = importlib.util.find_spec(_PACKAGE)
    for folder in (package.submodule_search_locations or ()) if package else ():
        yield Path(folder) / _IN_PACKAGE


def _works(shim: Path) -> bool:
    """Return whether a process follows another clock with it: a wheel may hold a library of another processor."""
    if not shim.exists():
        return False
    env = {**os.environ, "LD_PRELOAD": str(shim), "FAKETIME": f"+{_ASIDE_S}", "DONT_FAKE_MONOTONIC": "1"}
    done = subprocess.run([sys.executable, "-c", _READ_CLOCK], env=env, capture_output=True, text=True, check=False)
    try:
        return float(done.stdout) - time.time() > _ASIDE_S / 2
    except ValueError:
        return False


def set_clock(folder: Path, node: str, ahead_s: int) -> None:
    """Step the clock of a node; it takes effect within a second."""
    beside = folder / f".{node}"
    beside.write_text(f"{ahead_s:+d}\n")
    beside.replace(folder / node)  # a half-written file would be another time


def environment(file: Path, shim: Path) -> Mapping[str, str]:
    """Return the variables that make a process follow the clock in ``file``."""
    return {
        "LD_PRELOAD": str(shim),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_CACHE_DURATION": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_RESET": "1",
    }


def main() -> None:
    """Replace this process by the module."""
    shim = library()
    if shim is None:
        sys.exit("millrace: libfaketime is not installed; clocks cannot be stepped (pip install libfaketime)")
    folder, node = Path(os.environ[CLOCKS]), os.environ["MILLRACE_NODE"]
    if not (folder / node).exists():
        set_clock(folder, node, 0)
    stepped = environment(folder / node, shim) if sys.argv[1] in STEPPED else {}
    os.execve(sys.executable, [sys.executable, "-m", *sys.argv[1:]], {**os.environ, **stepped})


if __name__ == "__main__":
    main()
