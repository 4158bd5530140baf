"""Pages of other origins: those on the list may call and read every answer, all others learn nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from adapters.auth import issue
from domain.errors import Unavailable
from domain.rates import Limit
from schemas.operations import Operation
from schemas.routes import OPERATIONS
from tests.flow.api import EXAMPLE, SECRET, Api, open_api
from tests.flow.http_server import chunked, get, open_server, request

PAGE, OTHER = "https://chat.example", "https://evil.example"
LIST = ["https://app.example", PAGE]
SAFE = {"accept", "accept-language", "content-language"}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with open_api(tmp_path, origins=LIST) as opened:
        yield opened


def readable(answer: httpx2.Response, origin: str = PAGE) -> bool:
    """Return whether a page of this origin may read the answer."""
    return answer.headers.get("access-control-allow-origin") == origin


def words(answer: httpx2.Response, name: str) -> set[str]:
    return {word.strip().lower() for word in answer.headers.get(name, "").split(",")}


async def preflight(api: Api, operation: Operation, origin: str = PAGE) -> httpx2.Response:
    wanted = ["authorization", "content-type", *(header.name.lower() for header in operation.headers)]
    headers = {
        "origin": origin,
        "access-control-request-method": operation.method,
        "access-control-request-headers": ",".join(sorted(wanted)),
    }
    return await api.http.options(operation.path.format(**EXAMPLE), headers=headers)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
async def test_a_preflight_needs_no_token_and_allows_what_the_call_takes(api: Api, operation: Operation):
    answer = await preflight(api, operation)
    assert (answer.status_code, answer.content) == (204, b"")
    assert readable(answer)
    assert operation.method.lower() in words(answer, "access-control-allow-methods")
    named = {header.name.lower() for header in operation.headers} - {"origin"}
    assert named | {"authorization", "content-type"} <= words(answer, "access-control-allow-headers")
    assert answer.headers["vary"] == "Origin"
    assert int(answer.headers["access-control-max-age"]) >= 600
    assert "access-control-allow-credentials" not in answer.headers


async def test_headers_of_downloads_and_repetitions_are_allowed(api: Api):
    answer = await preflight(api, OPERATIONS[0])
    headers = {"range", "if-none-match", "idempotency-key", "tus-resumable", "upload-length", "upload-metadata"}
    assert headers | {"upload-offset"} <= words(answer, "access-control-allow-headers")


@pytest.mark.parametrize("origin", [OTHER, "null", "https://chat.example.evil.example", "http://chat.example", "x"])
async def test_a_page_that_is_not_listed_gets_neither_a_preflight_nor_an_answer(api: Api, origin: str):
    answer = await preflight(api, OPERATIONS[0], origin)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    called = await api.call("listConversations", 200, headers={"origin": origin})
    for each in (answer, called):
        assert each.headers["vary"] == "Origin"
        assert not [name for name in each.headers if name.startswith("access-control-")]


async def test_two_origins_are_none(api: Api):
    headers = [("origin", PAGE), ("origin", PAGE)]
    token = [("authorization", f"Bearer {issue(SECRET, 'alice', ttl_s=60)}")]
    answer = await api.http.get("/conversations", headers=headers + token)
    assert answer.status_code == 200
    assert not readable(answer)


async def test_an_answer_without_an_origin_still_varies_with_it(api: Api):
    answer = await api.call("listConversations", 200)
    assert answer.headers["vary"] == "Origin"
    assert not readable(answer)


class Broken:
    """Fails with this error."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def mine(self, *_: Any) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("operation", "status", "more"),
    [
        ("listConversations", 200, {}),
        ("listConversations", 401, {"user": None}),
        ("addMember", 403, {"user": "bob", "json": {"userId": "dave"}}),
        ("getConversation", 404, {"user": "eve"}),
        ("createConversation", 413, {"content": b"x" * 70_000, "headers": {"content-type": "application/json"}}),
        ("createConversation", 415, {"content": b"{}"}),
        ("createConversation", 422, {"json": []}),
        ("createUpload", 412, {}),
    ],
)
async def test_a_page_reads_every_answer(api: Api, operation: str, status: int, more: dict[str, Any]):
    headers = {**more.pop("headers", {}), "origin": PAGE}
    assert readable(await api.call(operation, status, headers=headers, **more))


@pytest.mark.parametrize(("error", "status"), [(Unavailable("away"), 503), (RuntimeError("a bug"), 500)])
async def test_a_page_reads_that_something_is_broken(tmp_path: Path, error: Exception, status: int):
    async with open_api(tmp_path, origins=LIST, conversations=Broken(error)) as api:
        assert readable(await api.call("listConversations", status, headers={"origin": PAGE}))


async def test_a_page_reads_how_long_to_wait(tmp_path: Path):
    async with open_api(tmp_path, origins=LIST, limits={"requests": Limit(0.01, 1.0)}) as api:
        await api.call("listConversations", 200)
        answer = await api.call("listConversations", 429, headers={"origin": PAGE})
        assert readable(answer)
        assert {"retry-after", "ratelimit", "ratelimit-policy"} <= words(answer, "access-control-expose-headers")


async def test_a_page_may_read_every_header_that_answers_have(api: Api):
    answer = await api.call("listConversations", 200, headers={"origin": PAGE})
    exposed = words(answer, "access-control-expose-headers")
    promised = {
        header.name.lower() for call in OPERATIONS for reply in call.replies.values() for header in reply.headers
    }
    downloads = {"etag", "content-range", "accept-ranges", "content-disposition"}
    assert promised | downloads | {"location", "retry-after", "www-authenticate"} <= exposed


async def test_options_of_tus_is_no_preflight(api: Api):
    answer = await api.call("describeUploads", 204, headers={"origin": PAGE})
    assert answer.headers["tus-version"] == "1.0.0"
    assert readable(answer)


async def test_without_a_list_pages_of_this_host_may_call(tmp_path: Path):
    async with open_api(tmp_path) as api:
        for origin, may in (("http://localhost:3000", True), ("http://127.0.0.1:8080", True), (PAGE, False)):
            answer = await api.call("listConversations", 200, headers={"origin": origin})
            assert readable(answer, origin) == may


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (chunked(b"no chunk\r\n", f"Origin: {PAGE}"), 400),
        (request("GET / HTTP/1.1", f"Origin: {PAGE}"), 400),
        (request("GET / HTTP/1.1", "Host: x", f"Origin: {PAGE}", "X: " + "x" * 40_000), 431),
    ],
)
async def test_a_page_reads_what_the_server_itself_refuses(data: bytes, status: int):
    async with open_server(origins=LIST) as server:
        [answer] = await server.ask(data)
        assert answer.status == status
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert answer.headers["vary"] == "origin", "in lower case here"


async def test_what_is_no_request_is_of_no_page():
    async with open_server(origins=LIST) as server:
        *_, answer = await server.ask(get("/", f"Origin: {PAGE}") + b"no request\r\n\r\n")
        assert answer.status == 400
        assert "access-control-allow-origin" not in answer.headers
