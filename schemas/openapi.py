"""OpenAPI 3.1 from the table of operations."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from msgspec import Struct

from schemas.answers import Problem
from schemas.json_schema import Schema, components, inline
from schemas.operations import PROBLEM, Header, Operation, Reply
from schemas.routes import ALWAYS, OPERATIONS, PATH_PARAMETERS, RATE_FIELDS

VERSION = "1"
_TEMPLATE = "#/components/schemas/{name}"
_TAGS = {
    "conversations": "Conversations and their members",
    "messages": "Messages",
    "receipts": "How far messages have come",
    "search": "Search",
    "notifications": "Notifications of the caller",
    "analytics": "Counts of messages",
    "limits": "Budgets of the caller",
    "tickets": "Tickets that open a WebSocket",
    "media": "Uploads by tus 1.0, and files",
}
_PROBLEM_HEADERS: dict[int, Schema] = {
    401: {"WWW-Authenticate": {"schema": {"type": "string"}}},
    409: {"Retry-After": {"description": "seconds, with `media_not_ready`", "schema": {"type": "integer"}}},
    416: {"Content-Range": {"description": "`bytes */SIZE`", "schema": {"type": "string"}}},
    429: {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}},
    503: {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}},
}


def openapi() -> Schema:
    """Return the document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Millrace",
            "version": VERSION,
            "description": (
                "Chat over HTTP. Unknown fields in a body and unknown or repeated query parameters are refused;"
                " ignore unknown fields in an answer."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": _paths(),
        "components": {
            "schemas": _schemas(),
            "responses": {_name(status): _problem(status) for status in _statuses()},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _paths() -> Schema:
    paths: dict[str, Schema] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return paths


def _operation(operation: Operation) -> Schema:
    parameters = [*_path_parameters(operation), *_query_parameters(operation.query), *_headers(operation)]
    body = _body(operation)
    replies = {str(status): _reply(reply) for status, reply in sorted(operation.replies.items())}
    problems = sorted({*ALWAYS, *operation.problems} - ({401} if operation.access != "token" else set()))
    return {
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [operation.tag],
        **({} if operation.access == "token" else {"security": []}),
        **({"parameters": parameters} if parameters else {}),
        **({"requestBody": body} if body else {}),
        "responses": {
            **replies,
            **{str(status): {"$ref": f"#/components/responses/{_name(status)}"} for status in problems},
        },
    }


def _path_parameters(operation: Operation) -> list[Schema]:
    return [
        {"name": name, "in": "path", "required": True, "schema": inline(kind)}
        for name, kind in PATH_PARAMETERS.items()
        if f"{{{name}}}" in operation.path
    ]


def _query_parameters(query: type[Struct] | None) -> list[Schema]:
    if query is None:
        return []
    schema = components(read=(query,))[query.__name__]
    return [
        {"name": name, "in": "query", "required": name in schema["required"], "schema": _given(field)}
        for name, field in schema["properties"].items()
    ]


def _given(field: Schema) -> Schema:
    """Return the schema of a parameter that is there: null is not text, and stands for one that is left out."""
    [*kinds] = [kind for kind in field.get("anyOf", ()) if kind != {"type": "null"}]
    return kinds[0] if len(kinds) == 1 else field


def _headers(operation: Operation) -> list[Schema]:
    return [
        {
            "name": header.name,
            "in": "header",
            "required": header.required,
            "description": header.doc,
            "schema": inline(header.type),
        }
        for header in operation.headers
    ]


def _body(operation: Operation) -> Schema | None:
    if operation.body is not None:
        return {"required": True, "content": {operation.content: {"schema": _ref(operation.body)}}}
    if operation.raw and operation.method in ("POST", "PATCH"):
        return {"required": operation.method == "PATCH", "content": {operation.content: {}}}
    return None


def _reply(reply: Reply) -> Schema:
    content: dict[str, Any] = {name: {} for name in reply.content}
    if reply.body is not None:
        content["application/json"] = {"schema": _ref(reply.body)}
    return {
        "description": reply.doc,
        "headers": {header.name: _header(header) for header in (*reply.headers, *RATE_FIELDS)},
        **({"content": content} if content else {}),
    }


def _header(header: Header) -> Schema:
    return {"description": header.doc, "required": header.required, "schema": inline(header.type)}


def _problem(status: int) -> Schema:
    return {
        "description": HTTPStatus(status).phrase,
        "headers": {**_PROBLEM_HEADERS.get(status, {}), **{field.name: _header(field) for field in RATE_FIELDS}},
        "content": {PROBLEM: {"schema": _ref(Problem)}},
    }


def _statuses() -> list[int]:
    return sorted({*ALWAYS, *(status for operation in OPERATIONS for status in operation.problems)})


def _name(status: int) -> str:
    return HTTPStatus(status).phrase.replace(" ", "")


def _schemas() -> dict[str, Schema]:
    bodies = {operation.body for operation in OPERATIONS if operation.body}
    replies = {reply.body for operation in OPERATIONS for reply in operation.replies.values() if reply.body}
    return components(read=bodies, written={*replies, Problem}, template=_TEMPLATE)


def _ref(kind: type[Struct]) -> Schema:
    return {"$ref": _TEMPLATE.format(name=kind.__name__)}
