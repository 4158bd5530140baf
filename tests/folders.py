"""Folders for whole stacks."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def open_folder(name: str) -> Iterator[Path]:
    """A folder that any user may enter: as root, PostgreSQL runs under another one. pytest closes those that it makes,
    also the common parent of those that another run uses now."""
    with tempfile.TemporaryDirectory(prefix=f"millrace-test-{name}-") as made:
        folder = Path(made)
        folder.chmod(0o755)
        yield folder
