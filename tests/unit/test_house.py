"""Shape of the project: sizes of rooms, imports, one home for each thing, documentation that names real files."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
ROOMS = (
    "schemas",
    "domain",
    "runtime",
    "adapters",
    "ingest",
    "streams",
    "gateway",
    "audit",
    "stack",
    "verify",
    "cli",
    "sdk",
)
PACKAGES = (*(room for room in ROOMS if room != "sdk"), "millrace_client")
SQL = ROOT / "adapters" / "postgres" / "sql"


def sources(room: str) -> list[Path]:
    """The tracked Python files of a room."""
    listed = subprocess.run(["git", "ls-files", f"{room}/*.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.split()]


def test_no_room_holds_more_than_a_quarter_of_the_product():
    lines = {room: sum(len(file.read_text().splitlines()) for file in sources(room)) for room in ROOMS}
    largest = max(lines, key=lambda room: lines[room])
    assert lines[largest] <= sum(lines.values()) / 4, lines


def test_files_stay_small():
    long = {
        str(f.relative_to(ROOT)): n
        for room in ROOMS
        for f in sources(room)
        if (n := len(f.read_text().splitlines())) > 300
    }
    assert long == {}


def test_no_module_imports_itself_by_way_of_others():
    graph = grimp.build_graph(*PACKAGES)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    tuple(graphlib.TopologicalSorter(imports).static_order())  # raises CycleError


def test_the_change_log_and_the_outbox_have_one_writer():
    def naming(pattern: str) -> list[str]:
        return [file.name for file in sorted(SQL.glob("*.sql")) if re.search(pattern, file.read_text())]

    assert naming(r"INSERT INTO changes\b") == [], "only the function that appends does"
    assert naming(r"millrace_append\(") == naming(r"INSERT INTO outbox\b") == ["change_log.sql"]


def test_frames_are_made_of_their_types():
    """No dictionary or bytes literal with a type, and no function that makes one, stands outside the contract."""
    found = []
    for room in ("domain", "adapters", "ingest", "streams", "gateway"):
        for file in sources(room):
            nodes = (node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.expr))
            for node in nodes:
                literal = isinstance(node, ast.Constant) and isinstance(node.value, bytes) and b'"type"' in node.value
                called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "frame"
                if literal or called:
                    found.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert found == []


@pytest.mark.parametrize("page", sorted([*ROOT.glob("docs/*.md"), *ROOT.glob("*.md")]), ids=lambda page: page.name)
def test_documentation_names_files_that_exist(page: Path):
    text = page.read_text()
    named = re.findall(rf"`((?:{'|'.join((*ROOMS, 'tests', 'docs', 'deploy', 'bench'))})/[\w./-]+\.\w+)`", text)
    linked = [link for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text) if "://" not in link]
    examples = {"streams/stages/latency.py", "streams/stages/mentions.py", "adapters/postgres/mentions.py"}
    examples |= {"adapters/postgres/sql/mentions.sql", "adapters/postgres/migrations/0006.mentions.sql"}
    examples |= {"adapters/memory/mentions.py", "tests/contract/test_mentions.py"}
    assert [name for name in named if name not in examples and not (ROOT / name).exists()] == []
    assert [link for link in linked if not (page.parent / link).exists()] == []


def test_the_cases_of_a_test_have_the_same_names_in_every_run():
    """Parallel workers collect the tests each for itself, and must find the same."""
    changing = []
    for file in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            text = " ".join(ast.unparse(each) for each in node.decorator_list if "parametrize" in ast.unparse(each))
            if re.search(r"\b(new_id|uuid4|token_hex|random|now)\(", text):
                changing.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert changing == []
