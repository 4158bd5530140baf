"""Docstrings name the thing: docs/style.md, rule 1."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = (
    *("schemas", "domain", "runtime", "adapters", "ingest", "streams", "gateway"),
    *("audit", "stack", "sdk", "verify", "cli", "bench"),
)
AT_MOST = 0.03
POINTERS = frozenset(
    [
        "what",
        "who",
        "whom",
        "whose",
        "whoever",
        "whatever",
        "whether",
        "which",
        "when",
        "where",
        "how",
        "why",
        "it",
        "its",
        "this",
        "that",
        "these",
        "those",
        "they",
        "them",
        "their",
        "there",
        "he",
        "she",
        "his",
        "her",
        "we",
        "our",
        "us",
        "you",
        "your",
        "one",
        "ones",
        "all",
        "both",
        "each",
        "every",
        "some",
        "none",
        "nobody",
        "everybody",
        "nothing",
        "everything",
        "something",
        "somebody",
        "anybody",
        "anything",
        "such",
    ]
)
"""Words that stand for a noun or a clause: a sentence that begins with one has not named its subject."""


class Docstring(NamedTuple):
    """A docstring and its place."""

    place: str
    text: str

    @property
    def first_word(self) -> str:
        word = self.text.split(maxsplit=1)[0] if self.text.split() else ""
        return word.strip("`\"'*_([.,:;").partition("'")[0].lower()


def docstrings(source: str, place: str) -> Iterator[Docstring]:
    """Yield the docstrings of a module, its classes and its functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                line = node.body[0].lineno
                yield Docstring(f"{place}:{line}", text)


def of_room(room: str) -> list[Docstring]:
    return [
        each
        for path in sorted((ROOT / room).rglob("*.py"))
        for each in docstrings(path.read_text(), str(path.relative_to(ROOT)))
    ]


def pointing(found: list[Docstring]) -> list[str]:
    """Return those whose first word names nothing, as ``file:line: text``."""
    return [f"{each.place}: {each.text.splitlines()[0]}" for each in found if each.first_word in POINTERS]


@pytest.mark.parametrize("room", ROOMS)
def test_docstrings_begin_by_naming_the_thing(room: str):
    found = of_room(room)
    assert len(found) > 10, "the room has moved"
    bad = pointing(found)
    share = len(bad) / len(found)
    assert share <= AT_MOST, f"{len(bad)} of {len(found)} name nothing in their first word:\n" + "\n".join(bad)


def test_the_count_sees_what_it_must_see():
    source = '''
"""What a module does."""
class A:
    """``Whether`` it works."""
    def f(self):
        """It's that."""
    async def g(self):
        """Return what is there."""
def h():
    """One's own."""
def i(): ...
'''
    found = list(docstrings(source, "x.py"))
    assert len(found) == 5
    assert [line.partition(": ")[2] for line in pointing(found)] == [
        "What a module does.",
        "``Whether`` it works.",
        "One's own.",
        "It's that.",
    ]
