"""Sandbox ``python -m streams.media.sandbox FOLDER PARENT KIND``: makes ``clean`` and ``thumbnail`` of ``original``.

Runs in a process of its own, with limits on memory and time and few rights. Each step prints one line of JSON with all
that is known by then: fields of the file, or an ``error``, which holds for these bytes for good. So a file whose copy
is made keeps it, also when its thumbnail takes too long. Without a verdict it prints nothing.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import PIL

from streams.media import movies, pictures
from streams.media.confinement import confine
from streams.media.kinds import PICTURES
from streams.media.strip import NoCopy

MEMORY = 1024 * 1024 * 1024
"""Address space of the process, in bytes."""
CPU_S = 6
"""Seconds of the processor that a file is worth. The wall clock is no measure: it depends on what else runs."""
_NICE = 10
"""Priority below the processes that carry messages: files wait when the machine is busy."""
_FILE = 128 * 1024 * 1024
_FILES = 64
_LIBRARIES = [Path(str(os.__file__)).parent, Path(PIL.__file__).parents[1]]


def limit(parent: int) -> None:
    """Limit memory and time of this process to what a file is worth, and end it with its parent."""
    os.nice(_NICE)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + 1))  # at the first it gets SIGXCPU, by which it is known
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE, _FILE))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, _FILES))
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


def run(folder: Path, kind: str) -> None:
    """Confine this process to the folder, and convert the file in it.

    Raises MemoryError when it is the machine, and not our limit, that has no memory left.
    """
    load = pictures.load if kind in PICTURES else movies.load
    load(kind)  # before, since libraries of the system are out of reach then
    with Path("/proc/self/status").open("rb", buffering=0) as status:
        # The interpreter may load more of itself later on: its own files may be read.
        layers = confine(_LIBRARIES, folder)

        def report(fields: Mapping[str, object]) -> None:
            print(json.dumps({**fields, "confinedBy": layers}), flush=True)  # noqa: T201

        try:
            if kind in PICTURES:
                pictures.convert(folder, kind, report)
            else:
                movies.convert(folder, kind, pictures.preview, report)
        except NoCopy as exc:
            report({"error": str(exc)})
        except MemoryError:
            if not _has_reached_limit(status.read().decode()):
                raise
            report({"error": "the file needs too much memory"})


def _has_reached_limit(status: str) -> bool:
    """Return whether this process has had so much address space that the limit may be what refused more."""
    [peak] = [line.split()[1] for line in status.splitlines() if line.startswith("VmPeak:")]
    return int(peak) * 1024 > MEMORY // 2


if __name__ == "__main__":
    limit(int(sys.argv[2]))
    run(Path(sys.argv[1]), sys.argv[3])
