"""Input that no client of ours sends, over all routes: never an error of the server, always a problem of RFC 9457."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.postgres.analytics import PostgresCounts
from adapters.postgres.conversations import PostgresConversations
from adapters.postgres.history import PostgresHistory
from adapters.postgres.idempotency import PostgresIdempotencyKeys
from adapters.postgres.intake import PostgresIntake
from adapters.postgres.invitations import PostgresInvitations
from adapters.postgres.messages import PostgresMessages
from adapters.postgres.notifications import PostgresNotifications
from adapters.postgres.pool import open_pool
from adapters.postgres.receipts import PostgresReceipts
from adapters.postgres.search import PostgresSearch
from adapters.postgres.tickets import PostgresTickets
from ingest.accept import Accept
from schemas.operations import Operation
from schemas.routes import OPERATIONS, PATH_PARAMETERS
from tests.flow.api import Api, check, open_api

ROOM = "01900000-0000-7000-8000-0000000000dd"
ODD = [
    "", " ", "\0", "a\0b", "\x1b[31m", "\u202e", "\ud800", "\ufffe", "null", "true", "-1", "0", "1e3", "٣", "é",
    "9" * 19, str(2**53), "x" * 3000, "..", "../..", "%00", "%", "a/b", "*", "'; --", "{}", "[]", '"', "\\",
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2024-02-30", "2024-01-01T00:00:00Z", "0000-00-00",
    ROOM, ROOM.upper(), "00000000-0000-0000-0000-000000000000",
    *(base64.urlsafe_b64encode(text.encode()).decode() for text in (
        f"0001-01-01T00:00:00+14:00 {ROOM}", f"9999-12-31T23:59:59-14:00 {ROOM}", f"2024-01-01 {ROOM}", "\0 \0",
        f"2024-01-01T00:00:00+00:00 {ROOM}",
    )),
]  # fmt: skip
texts = st.sampled_from(ODD) | st.text(st.characters(), max_size=20)
parts = st.sampled_from(["%ED%A0%80", "%FF", "%C3", "%", "%zz", "%00", "%2e%2e"]) | texts.map(
    lambda text: quote(text.encode("utf-8", "surrogatepass"), safe="")
)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
BODIES = [operation.body for operation in OPERATIONS if operation.body is not None]
FIELDS = sorted({field.encode_name for body in BODIES for field in msgspec.structs.fields(body)})
headers = st.dictionaries(
    st.sampled_from(sorted({header.name for operation in OPERATIONS for header in operation.headers})),
    (texts | st.integers(0, 10**20).map(str)).filter(lambda text: not set("\r\n\0") & set(text)),
    max_size=3,
)


@st.composite
def requests(draw: st.DrawFn, operation: Operation) -> tuple[str, dict[str, bytes], bytes]:
    """(target, headers, body) of a call, some of which is odd. The rest is good, so that it gets far."""
    target = operation.path
    for name in PATH_PARAMETERS:
        target = target.replace(f"{{{name}}}", draw(st.just(ROOM if name == "id" else "bob") | parts))
    known = [field.encode_name for field in msgspec.structs.fields(operation.query)] if operation.query else ["x"]
    query = draw(st.lists(st.tuples(st.sampled_from(known), parts), max_size=3, unique_by=lambda pair: pair[0]))
    target += "?" * bool(query) + "&".join(f"{name}={value}" for name, value in query)
    good = {"conversationId": ROOM, "type": "text", "content": "hi", "userId": "bob", "readSeq": 1, "upTo": ROOM}
    takes = [field.encode_name for field in msgspec.structs.fields(operation.body)] if operation.body else FIELDS
    body = {name: good[name] for name in takes if name in good}
    body |= draw(st.dictionaries(st.sampled_from(takes), values, max_size=2))
    raw = draw(st.just(json.dumps(body).encode()) | st.binary(max_size=30))
    odd = {name: text.encode("utf-8", "surrogatepass") for name, text in draw(headers).items()}
    return target, odd, raw if operation.method in ("POST", "PATCH") else b""


@dataclass
class Doors:
    """The API on a store, in a loop that goes on from one example to the next."""

    runner: asyncio.Runner
    api: Api

    def send(self, operation: Operation, target: str, odd: dict[str, bytes], body: bytes) -> httpx2.Response:
        fields: dict[str, Any] = {"content-type": operation.content, **self.api.token("odd-owner"), **odd}
        request = self.api.http.build_request(operation.method, "http://api/", headers=fields, content=body)
        request.url = httpx2.URL("http://api").copy_with(raw_path=target.encode())
        return self.runner.run(self.api.http.send(request))


@asynccontextmanager
async def opened(store: str, dsn: str, folder: Path) -> AsyncIterator[Api]:
    if store == "memory":
        async with open_api(folder) as api:
            yield api
        return
    async with open_pool(dsn) as pool:
        invitations = PostgresInvitations(pool)
        real = {
            "accept": Accept(PostgresIntake(pool), lambda _: None),
            "history": PostgresHistory(pool),
            "message_store": PostgresMessages(pool),
            "conversations": PostgresConversations(pool),
            "invitations": invitations,
            "relations": invitations,
            "receipts": PostgresReceipts(pool),
            "search": PostgresSearch(pool),
            "inbox": PostgresNotifications(pool),
            "counts": PostgresCounts(pool),
            "tickets": PostgresTickets(pool),
            "keys": PostgresIdempotencyKeys(pool),
        }
        async with open_api(folder, **real) as api:
            yield api


@pytest.fixture(scope="module", params=["memory", "postgres"])
def doors(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    dsn = request.getfixturevalue("pg_dsn") if request.param == "postgres" else ""
    with asyncio.Runner() as runner:
        opening = opened(request.param, dsn, tmp_path_factory.mktemp("media"))
        doors = Doors(runner, runner.run(opening.__aenter__()))
        body = {"conversationId": ROOM, "title": "Odd", "members": ["bob"]}
        doors.send(OPERATIONS[0], "/conversations", {}, json.dumps(body).encode())
        yield doors
        runner.run(opening.__aexit__(None, None, None))


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
def test_whatever_is_sent_is_answered_as_the_document_says(doors: Doors, operation: Operation):
    @settings(
        max_examples=int(os.environ.get("ODD_EXAMPLES", "25")),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(requests(operation))
    def try_it(sent: tuple[str, dict[str, bytes], bytes]) -> None:
        answer = doors.send(operation, *sent)
        assert answer.status_code < 500, answer.text
        if answer.status_code in (404, 405):  # perhaps of no route at all
            assert answer.headers["content-type"] == "application/problem+json"
        else:
            check(operation.id, answer)

    try_it()
