"""The fault matrix in the documentation is the one that is tested."""

from __future__ import annotations

import re
from pathlib import Path

from verify.edges import RULES

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| (\d+[a-z]?)( [●○])? \|", re.MULTILINE)


def text() -> str:
    return (ROOT / "docs" / "reliability.md").read_text()


def name_of(row: str) -> str:
    """The beginning of the tests of a row: ``7b`` is ``07b``."""
    digits = row.rstrip("abcdefghij")
    return f"def test_row_{int(digits):02}{row.removeprefix(digits)}_"


def files_of(row: str) -> list[str]:
    name = name_of(row)
    return [str(file.relative_to(ROOT)) for file in (ROOT / "tests" / "fault").glob("*.py") if name in file.read_text()]


def test_the_matrix_has_all_rows_in_order():
    rows = [row for row, _ in ROW.findall(text())]
    numbers = [int(row) for row in rows if row.isdigit()]
    assert numbers == sorted(set(numbers)) and len(numbers) >= 57
    assert [name_of(row) for row in rows] == sorted(name_of(row) for row in rows)


def test_each_row_names_the_file_of_its_tests_and_all_files_exist():
    for line in text().splitlines():
        if not (found := ROW.match(line)):
            continue
        named = re.findall(r"`(tests/[\w/]+\.py)`", line)
        assert all((ROOT / name).exists() for name in named), line
        assert set(files_of(found[1])) <= set(named), line
        assert named or found[2] is None or "millrace verify" in line, line


def test_rows_that_always_run_are_not_marked_slow():
    for row, mark in ROW.findall(text()):
        if mark != " ●":
            continue
        for name in files_of(row):
            before = (ROOT / name).read_text().partition(name_of(row))[0]
            decorators = before.rpartition("\n\n\n")[2]
            assert "slow" not in decorators, f"row {row} in {name}"


def test_the_table_of_edges_has_the_bounds_that_are_judged():
    table = text().partition("## How long it takes")[2].partition("## Invariants")[0]
    found = {
        cells[0]: [cells[2], cells[3], cells[4], cells[5]]
        for line in table.splitlines()
        if (cells := [cell.strip() for cell in line.strip("|").split("|")])[0] in set(RULES)
    }
    assert found == {
        edge: [
            f"{rule.late_s:g} s",
            f"{rule.median_s:g} s, {rule.p99_s:g} s",
            f"{rule.recovery_s:g} s",
            ", ".join(sorted(rule.roles)),
        ]
        for edge, rule in RULES.items()
    }
