"""Lock files: the exact version and the hashes of every package, for all Pythons that the project supports.

    python -m stack.lock [--upgrade]

Without ``--upgrade`` what is locked stays, unless pyproject.toml asks for something else. uv resolves for all Pythons
and systems at once; it is fetched for this purpose only, and pip alone installs what is locked (stack.install).
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Sequence
from pathlib import Path

LOCKS = Path("requirements")
BUILD, SERVER, DEV = (LOCKS / f"{name}.txt" for name in ("build", "server", "dev"))
"""Builds the project; runs its processes; what a checkout needs beyond both: embedded servers, tests, linters."""
_UV = "uv==0.13.9"
_OPTIONS = (
    *("--universal", "--python-version", "3.11", "--fork-strategy", "fewest", "--generate-hashes"),
    *("--no-annotate", "--no-header", "--no-emit-index-url", "--no-emit-find-links", "--no-config", "--quiet"),
)
_HEAD = "# Made by `make lock` from pyproject.toml; not for editing by hand."


def entries(text: str) -> dict[str, str]:
    """Return the entries of a lock file, each with its hashes, by their first line: ``name==1.2 ; marker``."""
    found = re.findall(r"^[a-z0-9].*(?:\n +.*)*", text, re.MULTILINE)
    return {entry.partition("\n")[0].removesuffix("\\").strip(): entry for entry in found}


def write(upgrade: bool) -> None:
    """Write the lock files anew. Raises SystemExit where something cannot be resolved."""
    with tempfile.TemporaryDirectory() as name:
        locked = _locked(Path(name), "" if upgrade else "".join(p.read_text() for p in (SERVER, DEV) if p.exists()))
    LOCKS.mkdir(exist_ok=True)
    for path, packages in locked.items():
        path.write_text("\n".join([_HEAD, *(packages[line] for line in sorted(packages)), ""]))


def _locked(folder: Path, preferred: str) -> dict[Path, dict[str, str]]:
    """Resolve everything at once, then what is needed to build and to run, from the versions that this has found."""
    uv, build = _fetch_uv(folder), folder / "build.in"
    build.write_text("\n".join(tomllib.loads(Path("pyproject.toml").read_text())["build-system"]["requires"]))
    extras = ("--extra", "embedded", "--extra", "dev")
    everything = _resolve(uv, ["pyproject.toml", str(build), *extras], folder / "all.txt", preferred)
    building = _resolve(uv, [str(build)], folder / "build.txt", everything)
    running = _resolve(uv, ["pyproject.toml"], folder / "server.txt", everything)
    locked = {BUILD: entries(building), SERVER: entries(running)}
    rest = {line: entry for line, entry in entries(everything).items() if line not in locked[BUILD] | locked[SERVER]}
    return {**locked, DEV: rest}


def _fetch_uv(folder: Path) -> Path:
    venv.create(folder / "uv", with_pip=True)
    _run([str(folder / "uv/bin/pip"), "install", "--quiet", "--disable-pip-version-check", _UV])
    return folder / "uv/bin/uv"


def _resolve(uv: Path, sources: Sequence[str], output: Path, preferred: str) -> str:
    """Return a lock file; versions in ``preferred`` are kept where they can be."""
    output.write_text(preferred)
    _run([str(uv), "pip", "compile", *_OPTIONS, *sources, "--output-file", str(output)])
    return output.read_text()


def _run(command: Sequence[str]) -> None:
    if subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode:
        raise SystemExit("the lock files could not be made, and stay as they are")


if __name__ == "__main__":
    write(upgrade="--upgrade" in sys.argv[1:])
