"""docs/wire.md names the calls, commands and frames that there are, with their fields."""

from __future__ import annotations

import re
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest

from schemas.commands import COMMANDS
from schemas.frames import FRAMES
from schemas.operations import Operation
from schemas.routes import BY_ID, OPERATIONS

WIRE = (Path(__file__).parents[2] / "docs" / "wire.md").read_text()
Names = dict[str, Any]


def rows() -> dict[str, tuple[str, str]]:
    """What the table says of each operation: its columns by operation id."""
    text = WIRE.partition("\n## HTTP\n")[2].partition("\n## ")[0]
    found: dict[str, tuple[str, str]] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        for method, path in re.findall(r"`([A-Z]+) (/[^`]*)`", cells[0]) if len(cells) == 3 else ():
            [operation] = [one for one in OPERATIONS if (one.method, one.path) == (method, path)]
            assert operation.id not in found, operation.id
            found[operation.id] = (cells[1], cells[2])
    return found


def test_the_table_in_the_documentation_has_every_call():
    assert rows().keys() == BY_ID.keys()


def names_in(text: str) -> Names:
    """``{a, b?:[{c}]}`` as names, each with the names within it; ``?`` stays."""
    tokens = re.findall(r'\{|\}|\[|\]|[A-Za-z]+\??|:"[^"]*"', text)

    def read() -> Names:
        found: Names = {}
        last = ""
        while (token := tokens.pop(0)) != "}":
            if token == "{":
                found[last] = read()
            elif token[0].isalpha():
                found[last := token] = {}
        return found

    assert tokens.pop(0) == "{"
    return read()


def names_of(kind: Any, *, optional: bool) -> Names:
    """The names of a struct, and of the structs within it."""
    if get_origin(kind) in (tuple, Union, UnionType):
        inner = [names_of(one, optional=optional) for one in get_args(kind)]
        return next((names for names in inner if names), {})
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return {}
    hints = get_type_hints(kind)
    return {
        field.encode_name + ("?" if optional and not field.required else ""): names_of(
            hints[field.name], optional=optional
        )
        for field in msgspec.structs.fields(kind)
    }


def flat(names: Names) -> Names:
    """Without the fields of a message, which has a paragraph of its own."""
    message = {"messageId", "senderId", "createdAt"}
    return {name: {} if message <= inner.keys() else flat(inner) for name, inner in names.items()}


@pytest.mark.parametrize("operation", [one for one in OPERATIONS if not one.raw], ids=lambda operation: operation.id)
def test_the_documentation_has_the_names_and_statuses_of_a_call(operation: Operation):
    takes, answers = rows()[operation.id]
    if operation.body is not None:
        [body] = re.findall(r"`(\{.*?\})`", takes)
        assert names_in(body) == names_of(operation.body, optional=True)
    if operation.query is not None:
        [query] = re.findall(r"`\?(.*?)`", takes)
        assert query.split("&") == [field.encode_name for field in msgspec.structs.fields(operation.query)]
    statuses = {int(status) for status in re.findall(r"\b(?:20\d|304)\b", answers)} or {200}
    assert statuses == set(operation.replies)
    reply = operation.replies[min(statuses)].body
    if (written := re.search(r"`(\{.*\})`", answers)) is not None:
        assert names_in(written[1]) == flat(names_of(reply, optional=False))
    else:
        assert reply is None or "message" in answers or "conversation" in answers


def documented(says: str) -> dict[str, str]:
    """The fields that the table of one side gives each type, as text."""
    text = WIRE.partition(f"| {says} | meaning |")[2].partition("\n\n")[0]
    cells = re.findall(r"^\| (`\{type:.*?) \|", text, re.MULTILINE)
    return dict(re.findall(r'^`\{type:"([a-z_.]+)"(?:, )?(.*?)\}`', "\n".join(cells), re.MULTILINE))


@pytest.mark.parametrize(("says", "kinds"), [("the client says", COMMANDS), ("the server says", FRAMES)])
def test_the_documentation_has_the_fields_of_every_command_and_frame(says, kinds):
    fields = documented(says)
    assert fields.keys() == {kind.__struct_config__.tag for kind in kinds}
    for kind in kinds:
        text = fields[kind.__struct_config__.tag]
        if "…" in text or kind.__name__ == "Ack":
            continue  # either of two forms
        names = names_of(kind, optional=True).keys() - {"ref?"}
        assert set(text.split(", ")) - {""} == names, kind.__name__
