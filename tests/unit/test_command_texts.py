"""Texts of the commands: each command and option has one, shared options read the same, the docs list all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from cli.main import app

OPERATING = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()
RIDDLES = re.compile(r"^(What|Who|Whether|Those|It|One|How|Which|Where|When|Its|They|This|That|For|Of)\b")


def commands(group: Any = None, prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in (group or typer.main.get_command(app)).commands.items():
        yield (*prefix, name), command
        if hasattr(command, "commands"):
            yield from commands(command, (*prefix, name))


ALL = dict(commands())
LEAVES = {words: command for words, command in ALL.items() if not hasattr(command, "commands")}


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_text_names_the_thing(words: tuple[str, ...]):
    texts = [ALL[words].help, *(getattr(param, "help", None) for param in ALL[words].params if param.name != "help")]
    for text in texts:
        assert text, f"a text is missing in {' '.join(words)}"
        assert not RIDDLES.match(text), text
        assert text[0].isupper() or text[0].isdigit(), text


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_shared_options_are_the_same_everywhere(words: tuple[str, ...]):
    by_name = {option: param for param in LEAVES[words].params for option in param.opts}
    if words != ("verify",):
        assert by_name["--data"].help.lower().startswith("data folder")
    if "--json" in by_name:
        assert by_name["--json"].help == "Print JSON."


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_the_docs_list_every_command(words: tuple[str, ...]):
    assert re.search(rf"^    millrace {' '.join(words)}\b", OPERATING, re.MULTILINE)
    table = OPERATING.partition("| command | needs from the environment |")[2].partition("\n\n")[0]
    assert any(f"`{name}" in table for name in (" ".join(words), f"{words[0]} …"))
