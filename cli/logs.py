"""``millrace logs``: print the logs of the processes, and follow them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from runtime.terminal import is_terminal, visible_lines
from stack.errors import OperatorError
from stack.servers.data_dir import DataDir

_BLOCK = 64 * 1024


def logs(folder: DataDir, name: str | None, *, follow: bool, lines: int) -> None:
    """Print the last lines of one log or of all; with ``follow`` also new lines. Raises OperatorError."""
    if not _files(folder, name):
        known = ", ".join(file.stem for file in _files(folder, None)) or "none yet"
        raise OperatorError(f"no log {name or ''} in {folder.logs}; there are: {known}")
    offsets: dict[Path, int] = {}
    for file in _files(folder, name):
        size = file.stat().st_size
        _print(file, tail(file, size, lines), prefix=name is None)
        offsets[file] = size
    while follow:
        time.sleep(0.2)
        for file in _files(folder, name):  # a process may have started since
            _print(file, new_lines(file, offsets), prefix=name is None)


def _files(folder: DataDir, name: str | None) -> list[Path]:
    return [file for file in sorted(folder.logs.glob("*.log")) if name in (None, file.stem)]


def tail(file: Path, size: int, lines: int) -> list[str]:
    """Return the last lines among the first ``size`` bytes; read no more of a large file than needed."""
    found, start = b"", size
    with file.open("rb") as log:
        while start > 0 and found.count(b"\n") <= lines:
            block = min(_BLOCK, start)
            start -= block
            log.seek(start)
            found = log.read(block) + found
    return found.decode(errors="replace").splitlines()[-lines:] if lines > 0 else []


def new_lines(file: Path, offsets: dict[Path, int]) -> Iterator[str]:
    """Yield the whole lines that were added since the last call."""
    size, start = file.stat().st_size, offsets.get(file, 0)
    if start > size:
        start = 0  # the file was replaced by a new one
    with file.open("rb") as log:
        log.seek(start)
        whole = log.read(size - start)
    whole = whole[: whole.rfind(b"\n") + 1]
    offsets[file] = start + len(whole)
    yield from whole.decode(errors="replace").splitlines()


def _print(file: Path, lines: Iterator[str] | list[str], *, prefix: bool) -> None:
    for line in lines:
        text = visible_lines(line) if is_terminal() else line
        print(f"{file.stem:16} {text}" if prefix else text, flush=True)
