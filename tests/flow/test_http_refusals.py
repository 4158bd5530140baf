"""Calls that are refused for what they say or who says it; each problem has its documented form."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from schemas.fields import MAX_BODY, MAX_CONTENT
from schemas.ids import new_id
from schemas.routes import OPERATIONS
from tests import make
from tests.flow.api import Api, open_api

ROOM = make.ROOM
WITH_BODY = pytest.mark.parametrize(
    "operation", [operation for operation in OPERATIONS if operation.body], ids=lambda operation: operation.id
)
MESSAGE = {"conversationId": ROOM, "type": "text", "content": "hi"}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with open_api(tmp_path) as opened:
        yield opened


NOT_FOUND: list[tuple[str, str, dict[str, Any]]] = [
    ("getConversation", "eve", {}),
    ("getConversation", "alice", {"path": {"id": new_id()}}),
    ("getConversation", "alice", {"path": {"id": "nonsense"}}),
    ("addMember", "eve", {"json": {"userId": "eve"}}),
    ("removeMember", "eve", {"path": {"userId": "eve"}}),
    ("sendMessage", "eve", {"json": MESSAGE}),
    ("sendMessage", "alice", {"json": {**MESSAGE, "conversationId": new_id()}}),
    ("listMessages", "eve", {}),
    ("getMessage", "alice", {}),
    ("getMessage", "alice", {"path": {"id": "nonsense"}}),
    ("listMessageReceipts", "alice", {}),
    ("recordReceipt", "eve", {"json": {"readSeq": 1}}),
    ("getAnalytics", "eve", {}),
    ("getMedia", "alice", {}),
    ("getThumbnail", "alice", {}),
    ("signMediaUrl", "alice", {}),
    ("endUpload", "alice", {"headers": {"tus-resumable": "1.0.0"}}),
    ("getUpload", "alice", {"headers": {"tus-resumable": "1.0.0"}}),
    ("continueUpload", "alice", {"headers": {"tus-resumable": "1.0.0"}}),
]


@pytest.mark.parametrize(("operation", "user", "more"), NOT_FOUND)
async def test_what_the_caller_may_not_know_of_is_not_found(api, operation, user, more):
    answer = await api.call(operation, 404, user=user, **more)
    assert operation == "getUpload" or answer.json()["code"] == "not_found"


async def test_a_message_of_a_conversation_that_one_left_is_not_found(api):
    [outcome] = await api.intake.accept([make.draft()])
    path = {"id": outcome.message.message_id}
    await api.call("getMessage", 200, user="bob", path=path)
    await api.call("removeMember", 204, user="bob")
    for operation in ("getMessage", "listMessageReceipts"):
        assert (await api.problem(operation, 404, user="bob", path=path))["code"] == "not_found"


BAD_BODIES: list[tuple[str, Any, str, str]] = [
    ("createConversation", {"conversationId": ROOM.upper()[:-1] + "A"}, "$.conversationId", "a UUID in lower case"),
    ("createConversation", {"title": ""}, "$.title", "length >= 1"),
    ("createConversation", {"title": "x" * 201}, "$.title", "length <= 200"),
    ("createConversation", {"title": "\u202e\u2066"}, "$.title", "visible characters"),
    ("createConversation", {"title": "ab\x00"}, "$.title", "must not have U+0000, at character 3"),
    ("createConversation", {"members": ["a b"]}, "$.members[0]", "1-255 visible ASCII"),
    ("createConversation", {"members": ["bob\n"]}, "$.members[0]", "1-255 visible ASCII"),
    ("createConversation", {"members": "bob"}, "$.members", "must be an array"),
    ("createConversation", {"owner": "bob"}, "$", "must not have the field `owner`"),
    ("addMember", {}, "$", "must have the field `userId`"),
    ("addMember", {"userId": 5}, "$.userId", "must be text"),
    ("addMember", [], "$", "must be an object"),
    ("sendMessage", {**MESSAGE, "content": ""}, "$.content", "1 to 4000 characters"),
    ("sendMessage", {**MESSAGE, "content": "x" * (MAX_CONTENT + 1)}, "$.content", "at most 4000 characters"),
    ("sendMessage", {**MESSAGE, "content": "a\u001b"}, "$.content", "must not have U+001B, at character 2"),
    ("sendMessage", {**MESSAGE, "type": "song"}, "$.type", "one of the values"),
    ("sendMessage", {**MESSAGE, "type": "system"}, "$.type", "one of the values"),
    ("sendMessage", {**MESSAGE, "senderId": "bob"}, "$", "must not have the field `senderId`"),
    ("sendMessage", {**MESSAGE, "clientMessageId": "a b"}, "$.clientMessageId", "visible ASCII"),
    ("sendMessage", {**MESSAGE, "clientMessageId": "k\n"}, "$.clientMessageId", "visible ASCII"),
    ("sendMessage", {**MESSAGE, "clientMessageId": "k" * 129}, "$.clientMessageId", "length <= 128"),
    ("sendMessage", {**MESSAGE, "attachments": [ROOM] * 11}, "$.attachments", "length <= 10"),
    ("sendMessage", {**MESSAGE, "attachments": [ROOM, "x"]}, "$.attachments[1]", "a UUID in lower case"),
    ("sendMessage", {**MESSAGE, "attachments": [ROOM]}, "$.attachments[0]", "an upload of the sender"),
    ("sendMessage", {**MESSAGE, "replyTo": "x"}, "$.replyTo", "a UUID in lower case"),
    ("sendMessage", {**MESSAGE, "replyTo": ROOM}, "$.replyTo", "a message of"),
    ("recordReceipt", {}, "$", "deliveredSeq or readSeq"),
    ("recordReceipt", {"readSeq": -1}, "$.readSeq", ">= 0"),
    ("recordReceipt", {"readSeq": 2**53 + 1}, "$.readSeq", "<= 9007199254740991"),
    ("recordReceipt", {"readSeq": True}, "$.readSeq", "must be a whole number"),
    ("recordReceipt", {"readSeq": 1, "device": "a b"}, "$.device", "1-64 characters"),
    ("recordReceipt", {"readSeq": 1}, "$", "beyond the head"),
    ("markNotificationsSeen", {"upTo": "x"}, "$.upTo", "a UUID in lower case"),
]


@pytest.mark.parametrize(("operation", "body", "path", "message"), BAD_BODIES)
async def test_a_body_with_a_wrong_field_is_refused_by_its_path(api, operation, body, path, message):
    problem = await api.problem(operation, 422, json=body)
    [error] = problem["errors"]
    assert (problem["code"], error["path"]) == ("invalid", path)
    assert message in error["message"]
    field = path.removeprefix("$.") if path != "$" else ""
    assert "must " in problem["detail"] or path.startswith("$.attachments"), problem["detail"]
    assert field.partition("[")[0] in problem["detail"]
    assert not api.changed


BAD_QUERIES: list[tuple[str, dict[str, str], str, str]] = [
    *(
        (operation, {"limit": limit}, "?limit", "must be a whole number")
        for operation in ("listConversations", "listMessages", "searchMessages", "listNotifications", "getAnalytics")
        for limit in ("0", "10081", "x", "-1", "")
    ),
    ("listConversations", {"cursor": "x"}, "?cursor", "omit it"),
    ("listConversations", {"cursor": "MjAyNiB4"}, "?cursor", "omit it"),
    ("listConversations", {"cursor": "\u00e9"}, "?cursor", "omit it"),
    ("listMessages", {"after": "x"}, "?after", "must be a whole number"),
    ("listMessages", {"after": "null"}, "?after", "must be a whole number"),
    ("listMessages", {"after": "1e3"}, "?after", "must be a whole number"),
    ("listMessages", {"limit": "1.0"}, "?limit", "must be a whole number"),
    ("searchMessages", {"q": "x", "conversationId": "null"}, "?conversationId", "must be"),
    ("listNotifications", {"unseen": "null"}, "?unseen", "must be true or false"),
    ("listMessages", {"before": "-1"}, "?before", "must be a whole number"),
    ("listMessages", {"before": str(2**53 + 1)}, "?before", "must be a whole number"),
    ("searchMessages", {}, "?", "must have the field `q`"),
    ("searchMessages", {"q": ""}, "?q", "length >= 1"),
    ("searchMessages", {"q": "  "}, "?q", "not only spaces"),
    ("searchMessages", {"q": "\x00"}, "?q", "U+0000, at character 1"),
    ("searchMessages", {"q": "x" * 201}, "?q", "length <= 200"),
    ("searchMessages", {"q": "x", "conversationId": "y"}, "?conversationId", "a UUID in lower case"),
    ("searchMessages", {"q": "x", "from": "a b"}, "?from", "1-255 visible ASCII"),
    ("searchMessages", {"q": "x", "after": "yesterday"}, "?after", "RFC 3339"),
    ("searchMessages", {"q": "x", "before": "1764460800"}, "?before", "RFC 3339"),
    ("searchMessages", {"q": "x", "cursor": "1001"}, "?cursor", "omit it"),
    ("searchMessages", {"q": "x", "cursor": "x"}, "?cursor", "omit it"),
    ("listNotifications", {"cursor": "x"}, "?cursor", "omit it"),
    ("listNotifications", {"unseen": "maybe"}, "?unseen", "must be true or false"),
    ("getAnalytics", {"from": "x"}, "?from", "RFC 3339"),
    ("getAnalytics", {"to": "x"}, "?to", "RFC 3339"),
]


@pytest.mark.parametrize(("operation", "query", "path", "message"), BAD_QUERIES)
async def test_a_query_with_a_wrong_parameter_is_refused_by_its_name(api, operation, query, path, message):
    problem = await api.problem(operation, 422, params=query)
    [error] = problem["errors"]
    assert (problem["code"], error["path"]) == ("invalid", path)
    assert message in error["message"]
    assert f"{path.removeprefix('?') or 'query'} must " in problem["detail"]


@WITH_BODY
async def test_a_body_must_be_json_in_utf_8_and_say_so(api, operation):
    as_json = {"content-type": "application/json; charset=utf-8"}
    for raw in (b"", b"{", b"\xff\xfe"):
        problem = await api.problem(operation.id, 422, headers=as_json, content=raw)
        assert problem["errors"] == [{"path": "$", "message": "must be JSON in UTF-8"}]
    for headers in ({}, {"content-type": "text/plain"}, {**as_json, "content-encoding": "gzip"}):
        problem = await api.problem(operation.id, 415, headers=headers, content=b"{}")
        assert problem["code"] == "unsupported_media_type"


@WITH_BODY
async def test_a_body_that_is_too_long_is_refused_whether_it_says_so_or_not(api, operation):
    as_json = {"content-type": "application/json"}

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY // 1024 + 1):
            yield b" " * 1024

    for content in (b" " * (MAX_BODY + 1), parts()):
        problem = await api.problem(operation.id, 413, headers=as_json, content=content)
        assert (problem["code"], problem["detail"]) == ("payload_too_large", "the body must have at most 65536 bytes")
    declared = await api.http.post("/messages", headers={"content-length": "-1"}, content=parts())
    assert declared.status_code == 413


async def test_only_the_owner_changes_members_and_stays(api):
    assert (await api.problem("addMember", 403, user="bob", json={"userId": "dave"}))["code"] == "forbidden"
    assert (await api.problem("removeMember", 403, user="bob", path={"userId": "carol"}))["code"] == "forbidden"
    assert (await api.problem("removeMember", 409, path={"userId": "alice"}))["code"] == "conflict"
    assert not api.tables.changes[ROOM]


async def test_a_member_to_remove_has_the_form_of_a_user_id(api):
    problem = await api.problem("removeMember", 422, path={"userId": "%00"})
    assert problem["detail"].startswith("userId must be 1-255 visible ASCII")


@pytest.mark.parametrize("user", ["auth0|5f7c8ec7c33c", "jane+chat@example.com", "a/b=c:{d}?#%2F", "..", "~" * 255])
async def test_a_user_id_of_any_issuer_can_be_added_and_removed(api, user: str):
    await api.call("addMember", 204, json={"userId": user})
    found = await api.call("getConversation", 200, user=user)
    assert user in [member["userId"] for member in found.json()["members"]]
    await api.call("removeMember", 204, path={"userId": quote(user, safe="").replace(".", "%2E")})
    await api.call("getConversation", 404, user=user)


async def test_an_id_that_is_taken_is_a_conflict(api):
    assert (await api.problem("createConversation", 409, json={"conversationId": ROOM}))["code"] == "conflict"


async def test_a_full_conversation_is_a_conflict(api):
    api.tables.members[ROOM].update({f"u{number}": "member" for number in range(5000)})
    problem = await api.problem("addMember", 409, json={"userId": "dave"})
    assert "full" in problem["detail"]


async def test_a_key_belongs_to_one_content(api):
    first = {**MESSAGE, "clientMessageId": "k"}
    await api.call("sendMessage", 201, json=first)
    problem = await api.problem("sendMessage", 422, json={**first, "content": "other"})
    assert problem["code"] == "idempotency_mismatch"
    problem = await api.problem("sendMessage", 422, json=first, headers={"idempotency-key": "other"})
    assert problem["errors"][0]["path"] == "$.clientMessageId"
    problem = await api.problem("sendMessage", 422, json=MESSAGE, headers={"idempotency-key": "a b"})
    assert problem["errors"][0]["path"] == "Idempotency-Key"


@pytest.mark.parametrize("origin", ["https://" + "x" * 300, "https://a\tb"])
async def test_an_origin_without_measure_gets_no_ticket(api, origin):
    problem = await api.problem("issueTicket", 422, headers={"origin": origin})
    assert problem["errors"][0]["path"] == "Origin"


TUS = {"tus-resumable": "1.0.0"}


@pytest.mark.parametrize(
    ("status", "headers", "named"),
    [
        (412, {}, "Tus-Resumable"),
        (400, TUS, "Upload-Length"),
        (400, {**TUS, "upload-length": "x"}, "Upload-Length"),
        (413, {**TUS, "upload-length": str(32 * 1024 * 1024 + 1)}, "the file must have at most"),
    ],
)
async def test_an_upload_that_cannot_begin_is_told_why(api, status, headers, named):
    assert named in (await api.problem("createUpload", status, headers=headers))["detail"]


@pytest.mark.parametrize(
    ("status", "headers", "named"),
    [
        (412, {"tus-resumable": "0.2"}, "Tus-Resumable"),
        (415, {"content-type": "text/plain"}, "Content-Type"),
        (400, {"upload-offset": "x"}, "Upload-Offset"),
        (409, {"upload-offset": "2"}, "Upload-Offset"),
        (413, {"upload-offset": "0"}, "no part more than is left"),
    ],
)
async def test_an_upload_that_cannot_go_on_is_told_why(api, status, headers, named):
    begun = await api.call("createUpload", 201, headers={**TUS, "upload-length": "4"})
    path = {"id": begun.headers["location"].rpartition("/")[2]}
    usual = {**TUS, "upload-offset": "0", "content-type": "application/offset+octet-stream"}
    problem = await api.problem("continueUpload", status, path=path, headers={**usual, **headers}, content=b"12345")
    assert named in problem["detail"]
