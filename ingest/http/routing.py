"""From the table of operations to the routes of the application: authenticate, read, call, answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from domain.identity import NOBODY, Identity
from ingest.http.auth import CallerAuth
from ingest.http.concurrency import CallSlots, Kind, kind_of
from ingest.http.params import parse, parse_path, parse_query, read_body
from ingest.http.problems import CALLER
from schemas.fields import Action
from schemas.operations import JSON, Operation
from schemas.routes import OPERATIONS

Q = TypeVar("Q")
B = TypeVar("B")
A = TypeVar("A")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[Q, B]):
    """An authenticated call: its query and body are of the types that the table names; None without."""

    identity: Identity
    method: str
    path: Mapping[str, str]
    headers: Headers
    query: Q
    body: B
    charge: Callable[[Action, float], Awaitable[None]]
    """Takes tokens from another budget of the caller, for what the body costs. Raises RateLimited."""

    @property
    def user(self) -> str:
        """The id of the caller."""
        return self.identity.user_id


@dataclass(frozen=True, slots=True)
class Answer(Generic[A]):
    """An answer in JSON; without content when ``body`` is None."""

    body: A
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


DONE: Answer[None] = Answer(None, 204)
_JSON_FIELDS = ((b"content-type", JSON.encode()), (b"cache-control", b"no-store"))

Endpoint: TypeAlias = Callable[[Call[Any, Any]], Awaitable[Answer[Any] | Response]]
RawEndpoint: TypeAlias = Callable[[Identity, Scope, Receive, Send], Awaitable[None]]
Endpoints: TypeAlias = Mapping[str, Endpoint | RawEndpoint]
"""By operation id."""


def routes(auth: CallerAuth, slots: CallSlots, endpoints: Endpoints) -> list[Route]:
    """Return a route for each operation that has an endpoint, in the order of the table.

    Raises KeyError for an endpoint of no operation.
    """
    if unknown := endpoints.keys() - {operation.id for operation in OPERATIONS}:
        raise KeyError(f"endpoints of no operation: {sorted(unknown)}")
    return [
        _route(auth, slots, operation, endpoints[operation.id]) for operation in OPERATIONS if operation.id in endpoints
    ]


def _route(auth: CallerAuth, slots: CallSlots, operation: Operation, endpoint: Any) -> Route:
    raw: RawEndpoint = endpoint if operation.raw else _answering(auth, operation, endpoint)
    path = operation.path.replace("{userId}", "{userId:path}")  # a user id may have slashes
    handler = _Handler(auth, slots, operation, raw, kind_of(operation))
    return Route(path, handler, methods=[operation.method], name=operation.id)


def _answering(auth: CallerAuth, operation: Operation, endpoint: Endpoint) -> RawEndpoint:
    """Return the endpoint with the request read for it, and its answer written."""
    query, body = operation.query, operation.body

    async def handle(identity: Identity, scope: Scope, receive: Receive, send: Send) -> None:
        call: Call[Any, Any] = Call(
            identity=identity,
            method=scope["method"],
            path=parse_path(scope["path_params"]),
            headers=Headers(raw=scope["headers"]),
            query=parse_query(query, scope["query_string"]),
            body=None if body is None else parse(body, await read_body(scope, receive)),
            charge=partial(auth.charge, scope, identity.user_id),
        )
        answer = await endpoint(call)
        if isinstance(answer, Answer) and answer.body is not None:
            await _write(answer, send)
        else:
            response = answer if isinstance(answer, Response) else Response(None, answer.status, answer.headers)
            await response(scope, receive, send)

    return handle


async def _write(answer: Answer[Any], send: Send) -> None:
    """Send an answer with a body."""
    body = msgspec.json.encode(answer.body)
    headers = [(name.encode(), value.encode("latin-1")) for name, value in answer.headers.items()]
    headers += (*_JSON_FIELDS, (b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@dataclass(frozen=True, slots=True)
class _Handler:
    """An operation's ASGI application. A known caller holds a slot until the answer is written."""

    auth: CallerAuth
    slots: CallSlots
    operation: Operation
    endpoint: RawEndpoint
    kind: Kind

    @property
    def name(self) -> str:
        """The id of the operation, for the security log."""
        return self.operation.id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        operation = self.operation
        if operation.access == "none":
            parse_query(operation.query, scope["query_string"])
            await self.endpoint(NOBODY, scope, receive, send)
            return
        identify = self.auth.caller if operation.access == "token" else self.auth.url_owner
        identity = await identify(scope, operation.rate)
        scope[CALLER] = identity
        if operation.raw and operation.query is None:
            parse_query(None, scope["query_string"])
        await self.slots.take(self.kind, identity.user_id)
        try:
            await self.endpoint(identity, scope, receive, send)
        finally:
            self.slots.leave(self.kind, identity.user_id)


class CallRouter:
    """Calls the application of the operation that a request is for. Raises HTTPException when there is none.

    Paths without parameters are looked up, all others matched one after the other.
    """

    def __init__(self, given: Sequence[Route]) -> None:
        # A redirect would send the token to whatever the request calls this host.
        self._router = Router(given, redirect_slashes=False)
        fixed = [route for route in given if not route.param_convertors]
        self._fixed = {(method, route.path): route.app for route in fixed for method in route.methods or ()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._fixed.get((scope["method"], scope["path"]))
        if app is None:
            scope["app"] = self  # else the router itself would answer that there is none
            await self._router(scope, receive, send)
        else:
            scope["endpoint"], scope["path_params"] = app, {}
            await app(scope, receive, send)
