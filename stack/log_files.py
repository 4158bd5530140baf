"""Log files of children: bounded in size while the children run."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

MOST_BYTES = 64 * 1024 * 1024
"""A log grows to so much, and one earlier file of about that size is kept."""


def rotate(log: Path, most: int = MOST_BYTES) -> bool:
    """Move the content of a log that has grown large to ``NAME.log.1``; return whether it was moved.

    The child goes on writing into the same file, which it holds open for appending. A line that it writes between the
    copy and the truncation is lost, as with the ``copytruncate`` of logrotate(8). Raises OSError.
    """
    if not log.exists() or log.stat().st_size <= most:
        return False
    earlier = log.with_name(f"{log.name}.1")
    part = log.with_name(f"{log.name}.part")
    try:
        shutil.copyfile(log, part)
    except OSError:  # a disk that is full: the log itself is what must not grow
        part.unlink(missing_ok=True)
        with suppress(OSError):
            earlier.unlink(missing_ok=True)
    else:
        part.replace(earlier)
    with log.open("r+b") as file:
        file.truncate(0)
    return True
