"""The HTTP API on twins, in process. Every answer is compared with the exported OpenAPI document."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
import jsonschema_rs
import orjson
from starlette.types import ASGIApp

from adapters.auth import Verifier, issue
from adapters.auth.claims import ClaimRules
from adapters.auth.keys import Secret
from adapters.memory.analytics import MemoryMinuteCounts
from adapters.memory.blobs import MemoryBlobs
from adapters.memory.effects import MemoryCounts, MemoryNotifications, MemoryStatuses
from adapters.memory.history import MemoryHistory
from adapters.memory.idempotency import MemoryIdempotencyKeys
from adapters.memory.identity import MemoryTickets
from adapters.memory.intake import MemoryConversations, MemoryIntake
from adapters.memory.invitations import MemoryInvitations
from adapters.memory.media import MemoryMedia
from adapters.memory.messages import MemoryMessages, MemoryReceipts
from adapters.memory.notifications import MemoryInbox
from adapters.memory.rates import MemoryRates
from adapters.memory.search import MemorySearch
from adapters.memory.tables import Tables
from adapters.upload_folder import DiskFloor, open_folder
from domain.downloads import SignedUrls
from domain.origins import allowed
from domain.policies import CompanyPolicy
from domain.rates import Budgets, Limit
from domain.revocations import RevokedTokens
from ingest.accept import Accept
from ingest.http.app import Dependencies, create_app
from ingest.http.auth import CallerAuth, Strangers
from ingest.http.concurrency import CallSlots
from ingest.http.media import MediaEndpoints
from schemas.export import FOLDER
from schemas.fields import ACTIONS, Action
from schemas.routes import BY_ID
from tests import make

SECRET = "s" * 40
EXAMPLE = {"id": make.ROOM, "userId": "bob"}


@dataclass
class Api:
    """The application, what is behind it, and a client of it. ``seen``: statuses by operation id."""

    app: ASGIApp
    http: httpx2.AsyncClient
    tables: Tables
    intake: MemoryIntake
    statuses: MemoryStatuses
    index: MemorySearch
    notifications: MemoryNotifications
    counts: MemoryCounts
    media: MemoryMedia
    blobs: MemoryBlobs
    rates: MemoryRates
    changed: list[str]
    seen: set[tuple[str, int]] = field(default_factory=set)

    async def call(
        self,
        operation: str,
        expect: int,
        *,
        user: str | None = "alice",
        path: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> httpx2.Response:
        """The answer to a call, which must have this status and the form that the document gives it."""
        called = BY_ID[operation]
        token = {} if user is None else self.token(user)
        url = called.path.format(**{**EXAMPLE, **(path or {})})
        answer = await self.http.request(called.method, url, headers={**token, **(headers or {})}, **more)
        assert answer.status_code == expect, answer.text
        check(operation, answer)
        self.seen.add((operation, answer.status_code))
        return answer

    def token(self, user: str) -> dict[str, str]:
        """The header that names a user."""
        return {"authorization": f"Bearer {issue(SECRET, user, ttl_s=60)}"}

    async def problem(self, operation: str, expect: int, **more: Any) -> dict[str, Any]:
        """The problem that a call is answered with."""
        body: dict[str, Any] = (await self.call(operation, expect, **more)).json()
        assert body["status"] == expect
        return body


@asynccontextmanager
async def open_api(
    folder: Path,
    *,
    limits: Mapping[Action, Limit] | None = None,
    factors: Mapping[str, float] | None = None,
    strangers: Strangers | None = None,
    **instead: Any,
) -> AsyncIterator[Api]:
    """The API with alice, bob and carol in ROOM. ``instead`` replaces dependencies, or ``verify``."""
    tables = Tables()
    await MemoryConversations(tables).create(make.ROOM, "Room", "alice", ["bob", "carol"])
    notifications, counts, index = MemoryNotifications(tables), MemoryCounts(), MemorySearch(tables)
    intake, media, blobs, rates = MemoryIntake(tables), MemoryMedia(tables), MemoryBlobs(), MemoryRates()
    changed: list[str] = []
    slots = CallSlots(instead.pop("calls_per_user", 0), instead.pop("messages_per_user", 0))
    verify = instead.pop("verify", Verifier(Secret(SECRET), ClaimRules(), RevokedTokens()).verify)
    budgets = Budgets({**dict.fromkeys(ACTIONS, Limit(0.0, 0.0)), **(limits or {})}, factors or {})
    origins = allowed(instead.pop("origins", ()))
    urls = instead.pop("urls", SignedUrls(SECRET.encode()))
    usual = {
        "accept": Accept(intake, lambda drafts: changed.extend(draft.conversation_id for draft in drafts)),
        "changed": changed.append,
        "history": MemoryHistory(tables),
        "messages": instead.pop("message_store", MemoryMessages(tables)),
        "conversations": MemoryConversations(tables),
        "invitations": MemoryInvitations(tables),
        "relations": MemoryInvitations(tables),
        "policy": CompanyPolicy(),
        "receipts": MemoryReceipts(tables),
        "search": index,
        "inbox": MemoryInbox(notifications),
        "counts": MemoryMinuteCounts(counts),
        "tickets": MemoryTickets(),
        "rates": rates,
        "budgets": budgets,
        "keys": MemoryIdempotencyKeys(),
        "media": MediaEndpoints(media, blobs, open_folder(folder / "uploads", DiskFloor(0, 0)), urls=urls),
    }
    dependencies = Dependencies(**{**usual, **instead})
    auth = CallerAuth(verify, rates, budgets, strangers or Strangers(), urls)
    app = create_app(auth, slots, dependencies.endpoints(), origins)
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://api") as http:
        yield Api(
            app=app,
            http=http,
            tables=tables,
            intake=intake,
            statuses=MemoryStatuses(tables),
            index=index,
            notifications=notifications,
            counts=counts,
            media=media,
            blobs=blobs,
            rates=rates,
            changed=changed,
        )


def check(operation: str, answer: httpx2.Response) -> None:
    """Compare an answer with the document: its status, headers, content type and body."""
    called = BY_ID[operation]
    responses = _document()["paths"][called.path][called.method.lower()]["responses"]
    assert str(answer.status_code) in responses, f"{operation} must not answer {answer.status_code}"
    response = responses[str(answer.status_code)]
    if "$ref" in response:
        response = _document()["components"]["responses"][response["$ref"].rpartition("/")[2]]
    for name, header in response.get("headers", {}).items():
        assert name in answer.headers or not header.get("required"), f"{operation}: {name} is missing"
    assert answer.headers["x-content-type-options"] == "nosniff"
    if called.method != "HEAD":  # it has no body
        _check_content(operation, response.get("content", {}), answer)


def _check_content(operation: str, content: Mapping[str, Any], answer: httpx2.Response) -> None:
    if not content:
        assert answer.content == b""
        return
    media_type = answer.headers["content-type"]
    wanted = content.get(media_type, content.get(f"{media_type.partition('/')[0]}/*"))
    assert wanted is not None, f"{operation}: {media_type} is not documented"
    if "schema" in wanted:
        assert answer.headers["cache-control"] == "no-store"
        _validator(orjson.dumps(wanted["schema"])).validate(answer.json())


@cache
def _document() -> dict[str, Any]:
    document: dict[str, Any] = orjson.loads((FOLDER / "openapi.json").read_bytes())
    return document


@cache
def _validator(schema: bytes) -> jsonschema_rs.Draft202012Validator:
    closed = {**orjson.loads(schema), "components": _document()["components"]}
    return jsonschema_rs.Draft202012Validator(closed, validate_formats=True)
