"""The table of HTTP calls and the application name the same calls with the same types."""

from __future__ import annotations

from typing import Any, get_type_hints

import pytest
from starlette.responses import Response

from ingest.http.app import Dependencies
from ingest.http.concurrency import CallSlots
from ingest.http.media import MediaEndpoints
from ingest.http.routing import Answer, Call, routes
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
