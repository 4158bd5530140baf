"""Compiled helpers: optional libraries of C in the environment, built where a compiler is, each named by its source.

Nothing is compiled while a process runs: ``make setup`` does it. Without a library its user has a way in Python.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

_COMPILE_S = 60.0


def built(source: Path, environment: Path | None = None) -> Path | None:
    """Return the library that was built from this source, as it is now; None where there is none."""
    try:
        library = _place(source, environment or Path(sys.prefix))
    except OSError:
        return None
    return library if library.is_file() else None


def build(source: Path, environment: Path) -> Path | None:
    """Build the library, unless it is there; None without a compiler, or where that does not succeed."""
    if (library := built(source, environment)) is not None:
        return library
    if (compiler := shutil.which("cc")) is None:
        return None
    library = _place(source, environment)
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        made = Path(folder) / library.name
        command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(made), str(source)]
        try:
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=_COMPILE_S)
        except (OSError, subprocess.SubprocessError):
            return None
        made.replace(library)  # a process that starts meanwhile finds it whole, or not at all
    return library


def _place(source: Path, environment: Path) -> Path:
    return environment / "lib" / "millrace" / f"{source.stem}-{sha256(source.read_bytes()).hexdigest()[:16]}.so"
