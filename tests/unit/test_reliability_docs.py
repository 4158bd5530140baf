"""The fault matrix in the documentation is the one that is tested."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| (\d+)( [●○])? \|", re.MULTILINE)


def text() -> str:
    return (ROOT / "docs" / "reliability.md").read_text()


def files_of(row: int) -> list[str]:
    name = f"def test_row_{row:02}_"
    return [str(file.relative_to(ROOT)) for file in (ROOT / "tests" / "fault").glob("*.py") if name in file.read_text()]


def test_the_matrix_has_all_rows_in_order():
    assert [int(number) for number, _ in ROW.findall(text())] == list(range(1, 49))


def test_each_row_names_the_file_of_its_tests_and_all_files_exist():
    for line in text().splitlines():
        if not (found := ROW.match(line)):
            continue
        named = re.findall(r"`(tests/[\w/]+\.py)`", line)
        assert all((ROOT / name).exists() for name in named), line
        assert set(files_of(int(found[1]))) <= set(named), line
        assert named or found[2] is None or "millrace verify" in line, line


def test_rows_that_always_run_are_not_marked_slow():
    for number, mark in ROW.findall(text()):
        if mark != " ●":
            continue
        for name in files_of(int(number)):
            before = (ROOT / name).read_text().partition(f"def test_row_{int(number):02}_")[0]
            decorators = before.rpartition("\n\n\n")[2]
            assert "slow" not in decorators, f"row {number} in {name}"
