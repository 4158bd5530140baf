"""The table of HTTP calls, the application and docs/wire.md name the same calls with the same types."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
from starlette.responses import Response
from starlette.routing import Route

from ingest.http.app import Dependencies, create_app
from ingest.http.media import MediaEndpoints
from ingest.http.routing import Answer, Call, routes
from schemas.routes import BY_ID, OPERATIONS, Operation

WIRE = Path(__file__).parents[2] / "docs" / "wire.md"


@pytest.fixture(scope="module")
def endpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    media = MediaEndpoints(None, None, tmp_path_factory.mktemp("media"))
    behind = dict.fromkeys(Dependencies.__annotations__)
    return dict(Dependencies(**{**behind, "media": media}).endpoints())


def test_the_table_names_each_call_once():
    assert len({operation.id for operation in OPERATIONS}) == len(OPERATIONS)
    assert len({(operation.method, operation.path) for operation in OPERATIONS}) == len(OPERATIONS)


def test_every_route_of_the_application_is_in_the_table_and_the_other_way_round(endpoints):
    app = create_app(None, endpoints)
    assert all(isinstance(route, Route) for route in app.routes)
    served = {(method, route.path) for route in app.routes for method in route.methods}
    table = {(operation.method, operation.path) for operation in OPERATIONS}
    implied = {("HEAD", operation.path) for operation in OPERATIONS if operation.method == "GET"}
    assert served == table | implied
    assert [route.name for route in app.routes] == [operation.id for operation in OPERATIONS]


def test_an_endpoint_without_an_operation_is_refused(endpoints):
    with pytest.raises(KeyError, match="unheardOf"):
        routes(None, {**endpoints, "unheardOf": endpoints["getMessage"]})


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
def test_an_endpoint_takes_and_returns_the_types_of_its_operation(endpoints, operation: Operation):
    hints = get_type_hints(endpoints[operation.id])
    if operation.raw:
        assert list(hints) == ["identity", "scope", "receive", "send", "return"]
        return
    assert hints["call"] == Call[operation.query or None, operation.body or None]
    bodies = {reply.body for reply in operation.replies.values()}
    assert len(bodies) == 1
    content = any(reply.content for reply in operation.replies.values())
    assert hints["return"] == (Response if content else Answer[next(iter(bodies))])


# docs/wire.md: each row of the table of calls, as the call, the names that it takes, and the names that it answers.

Names = dict[str, Any]


def rows() -> dict[str, tuple[str, str]]:
    """What the table says of each operation: its columns by operation id."""
    text = WIRE.read_text().partition("\n## HTTP\n")[2].partition("\n## ")[0]
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
    if get_origin(kind) is tuple or get_origin(kind) is Union or "|" in type(kind).__name__.lower():
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
    statuses = {int(status) for status in re.findall(r"\b20\d\b", answers)} or {200}
    assert statuses == set(operation.replies)
    reply = operation.replies[min(statuses)].body
    if (written := re.search(r"`(\{.*\})`", answers)) is not None:
        assert names_in(written[1]) == flat(names_of(reply, optional=False))
    else:
        assert reply is None or "message" in answers or "conversation" in answers
