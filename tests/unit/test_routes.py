"""The table of HTTP calls and the application name the same calls with the same types."""

from __future__ import annotations

from typing import Any, get_type_hints

import pytest
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match, Route

from ingest.http.app import Dependencies
from ingest.http.concurrency import CallSlots
from ingest.http.media import MediaEndpoints
from ingest.http.routing import Answer, Call, CallRouter, routes
from schemas.operations import Operation
from schemas.routes import OPERATIONS


@pytest.fixture(scope="module")
def endpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    media = MediaEndpoints(None, None, tmp_path_factory.mktemp("media"))
    behind = dict.fromkeys(Dependencies.__annotations__)
    return dict(Dependencies(**{**behind, "media": media}).endpoints())


def test_the_table_names_each_call_once():
    assert len({operation.id for operation in OPERATIONS}) == len(OPERATIONS)
    assert len({(operation.method, operation.path) for operation in OPERATIONS}) == len(OPERATIONS)


def test_every_route_of_the_application_is_in_the_table_and_the_other_way_round(endpoints):
    routed = routes(None, CallSlots(), endpoints)
    served = {(method, route.path.replace(":path}", "}")) for route in routed for method in route.methods or ()}
    table = {(operation.method, operation.path) for operation in OPERATIONS}
    implied = {("HEAD", operation.path) for operation in OPERATIONS if operation.method == "GET"}
    assert served == table | implied
    assert [route.name for route in routed] == [operation.id for operation in OPERATIONS]


def test_an_endpoint_without_an_operation_is_refused(endpoints):
    with pytest.raises(KeyError, match="unheardOf"):
        routes(None, CallSlots(), {**endpoints, "unheardOf": endpoints["getMessage"]})


class Named:
    """An application that tells the scope it was called with."""

    def __init__(self) -> None:
        self.scope: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope = scope


def first_match(given: list[Route], method: str, path: str) -> Route | None:
    """The route that Starlette takes."""
    scope = {"type": "http", "method": method, "path": path}
    return next((route for route in given if route.matches(scope)[0] is Match.FULL), None)


async def test_each_call_reaches_the_operation_that_starlette_finds():
    given = [
        Route(route.path.replace("{userId}", "{userId:path}"), Named(), methods=[route.method], name=route.id)
        for route in OPERATIONS
    ]
    router, paths = CallRouter(given), {operation.path.format(id="x", userId="y/z") for operation in OPERATIONS}
    methods = {"PUT", "HEAD", "OPTIONS", *(operation.method for operation in OPERATIONS)}
    for path in (*paths, *(f"{path}/" for path in paths), *(f"{path}\n" for path in paths), "/", "", "/nothing"):
        for method in methods:
            wanted, scope = first_match(given, method, path), {"type": "http", "method": method, "path": path}
            if wanted is None:
                known = any(first_match(given, other, path) for other in methods)
                with pytest.raises(HTTPException) as refused:
                    await router(scope, None, None)
                assert refused.value.status_code == (405 if known else 404), (method, path)
                assert bool((refused.value.headers or {}).get("Allow")) == known
            else:
                await router(scope, None, None)
                reached: Any = wanted.endpoint
                assert reached.scope is scope, (method, path)
                _, found = wanted.matches({"type": "http", "method": method, "path": path})
                assert (scope["endpoint"], scope["path_params"]) == (wanted.endpoint, found["path_params"])


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
