"""Query parameters: unknown and repeated ones are refused by their names, and texts are read strictly."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from schemas.operations import Operation
from schemas.routes import BY_ID, OPERATIONS
from tests.flow.api import EXAMPLE, Api, open_api


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with open_api(tmp_path) as opened:
        yield opened


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
async def test_a_query_parameter_that_a_call_does_not_have_is_refused_by_its_name(api, operation):
    for query, path in (("lmit=2", "?lmit"), ("%ff=1", "?"), ("a%00\u202e=1", "?a??"), ("x" * 60, f"?{'x' * 50}")):
        problem = await refused_query(api, operation, query)
        assert problem is None or [error["path"] for error in problem["errors"]] == [path]


async def refused_query(api: Api, operation: Operation, query: str) -> dict[str, Any] | None:
    """The problem; that of a HEAD is not told."""
    url = httpx2.URL("http://api").copy_with(
        raw_path=f"{operation.path.format(**EXAMPLE)}?{quote(query, safe='=%&')}".encode()
    )
    answer = await api.http.request(operation.method, url, headers=api.token("alice"))
    assert answer.status_code == 422
    return None if operation.method == "HEAD" else answer.json()


@pytest.mark.parametrize(
    ("query", "path", "message"),
    [
        ("q=a&q=b", "?q", "must be given once"),
        ("q=a&limit=5&limit=5", "?limit", "must be given once"),
        ("q=%ED%A0%80", "?", "percent-encoded in UTF-8"),
        ("q=%ff", "?", "percent-encoded in UTF-8"),
        ("q=a%00", "?q", "must not have U+0000, at character 2"),
        ("q=x&from=%1b", "?from", "must not have U+001B, at character 1"),
        ("&".join(["q=a"] * 101), "?", "at most 100 parameters"),
    ],
)
async def test_a_query_is_read_strictly(api, query: str, path: str, message: str):
    problem = await refused_query(api, BY_ID["searchMessages"], query)
    assert problem is not None
    [error] = problem["errors"]
    assert error["path"] == path
    assert message in error["message"]


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1969-01-01", "9999-12-31"])
@pytest.mark.parametrize("name", ["after", "before"])
async def test_a_time_may_be_far_away(api, name: str, at: str):
    await api.call("searchMessages", 200, params={"q": "x", name: at})
