"""The lock files cover what pyproject.toml asks for, agree with each other, and name no place to fetch from."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from stack.install import LOCKS
from stack.lock import BUILD, DEV, SERVER, entries

ROOT = Path(__file__).parents[2]


def project() -> dict[Path, list[Requirement]]:
    """Return the requirements of pyproject.toml by the lock file that must cover them."""
    text = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = text["project"]["optional-dependencies"]
    needed = {
        BUILD: text["build-system"]["requires"],
        SERVER: text["project"]["dependencies"],
        DEV: [each for extra in extras.values() for each in extra],
    }
    return {path: list(map(Requirement, texts)) for path, texts in needed.items()}


def locked(*paths: Path) -> dict[str, set[str]]:
    """Return the versions that the lock files hold, by package."""
    versions: dict[str, set[str]] = {}
    for path in paths:
        for line in entries((ROOT / path).read_text()):
            pin = Requirement(line)
            [exact] = pin.specifier
            assert exact.operator == "=="
            versions.setdefault(canonicalize_name(pin.name), set()).add(exact.version)
    return versions


@pytest.mark.parametrize(("path", "with_files"), [(BUILD, (BUILD,)), (SERVER, (SERVER,)), (DEV, LOCKS)], ids=str)
def test_each_requirement_is_locked_to_a_version_that_it_admits(path: Path, with_files: tuple[Path, ...]):
    versions = locked(*with_files)
    for requirement in project()[path]:
        held = versions.get(canonicalize_name(requirement.name), set())
        assert held, f"{requirement.name} is not locked: make lock"
        assert all(requirement.specifier.contains(version) for version in held), f"{requirement}: make lock"


@pytest.mark.parametrize(("path", "with_files"), [(BUILD, (BUILD,)), (SERVER, (SERVER,)), (DEV, LOCKS)], ids=str)
def test_what_the_requirements_require_is_locked_too(path: Path, with_files: tuple[Path, ...]):
    versions, todo, done = locked(*with_files), list(project()[path]), set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        assert name in versions, f"{name} is not locked: make lock"
        for extra in ("", *requirement.extras):
            if (name, extra) not in done:
                done.add((name, extra))
                todo += needed_here(name, extra)
    assert len(done) >= len(project()[path])


def needed_here(name: str, extra: str) -> list[Requirement]:
    """Return what an installed package requires on this system."""
    try:
        texts = requires(name) or []
    except PackageNotFoundError:
        pytest.fail(f"{name} is locked and not installed: make setup")
    needs = map(Requirement, texts)
    return [each for each in needs if each.marker is None or each.marker.evaluate({"extra": extra})]


def test_the_files_agree_and_dev_repeats_nothing():
    assert all(len(versions) == 1 for versions in locked(*LOCKS).values())
    texts = {path: entries((ROOT / path).read_text()) for path in LOCKS}
    assert not texts[DEV].keys() & (texts[SERVER].keys() | texts[BUILD].keys())


@pytest.mark.parametrize("path", LOCKS, ids=str)
def test_each_entry_has_hashes_and_the_file_names_no_host(path: Path):
    text = (ROOT / path).read_text()
    for line, entry in entries(text).items():
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), line
    assert "://" not in text
    assert not re.search(r"^\s*--(?!hash=)", text, re.MULTILINE), "an option for pip"


def test_entries_are_read_with_their_markers_and_hashes():
    one = "one==1 ; python_version < '4' \\\n    --hash=sha256:a \\\n    --hash=sha256:b"
    two = "two==2 \\\n    --hash=sha256:c"
    found = entries(f"# a comment\n{one}\n{two}\n")
    assert found == {"one==1 ; python_version < '4'": one, "two==2": two}
