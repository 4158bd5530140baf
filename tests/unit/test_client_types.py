"""The client library's types against the contract: each frame and its fields are there, by their names on the wire."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, get_args
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest
from millrace_client import HttpClient, NotFound, open_http, types
from millrace_client import frames as client
from msgspec import Struct

from ingest.http.concurrency import kind_of
from schemas import answers, commands, frames, messages, routes
from schemas.operations import Operation
from tests import make
from tests.scripted import scripted


def tag_of(kind: type[Struct]) -> str:
    return str(kind.__struct_config__.tag)


def fields_of(kind: type[Struct]) -> dict[str, bool]:
    """Wire names, and whether each must be there."""
    return {field.encode_name: field.required for field in msgspec.structs.fields(kind)}


SERVER = {tag_of(kind): kind for kind in frames.FRAMES}
CLIENT = {tag_of(kind): kind for kind in get_args(client.KnownFrame)}
SENT = (
    client.JoinConversation,
    client.LeaveConversation,
    client.Ack,
    client.Read,
    client.SetTyping,
    client.RefreshToken,
    client.Ping,
)


def test_the_client_knows_every_frame_of_the_server():
    assert CLIENT.keys() == SERVER.keys()


@pytest.mark.parametrize("tag", sorted(SERVER))
def test_a_frame_has_the_fields_of_the_contract(tag: str):
    known, promised = fields_of(CLIENT[tag]), fields_of(SERVER[tag])
    assert known.keys() == promised.keys()
    assert {name for name, must in known.items() if must} <= {name for name, must in promised.items() if must}


def test_the_client_can_send_every_command():
    assert {tag_of(kind) for kind in SENT} == {tag_of(kind) for kind in commands.COMMANDS}


@pytest.mark.parametrize("kind", SENT)
def test_a_command_has_only_fields_that_the_server_takes(kind: type[Struct]):
    [command] = [one for one in commands.COMMANDS if tag_of(one) == tag_of(kind)]
    assert fields_of(kind).keys() <= fields_of(command).keys()


# ---- answers


ANSWERS = {
    kind.__name__: kind
    for kind in vars(types).values()
    if isinstance(kind, type) and issubclass(kind, Struct) and kind is not Struct
}


@pytest.mark.parametrize("name", sorted(ANSWERS.keys() - {"Problem"}))
def test_an_answer_has_the_fields_of_the_contract(name: str):
    promised = getattr(answers, name, None) or getattr(messages, name)
    assert fields_of(ANSWERS[name]).keys() == fields_of(promised).keys()


def test_what_a_client_reads_of_a_problem_is_in_the_contract():
    assert fields_of(types.Problem).keys() <= fields_of(answers.Problem).keys()


# ---- calls


CALLS: dict[str, Callable[[HttpClient], Awaitable[Any]]] = {
    "createConversation": lambda http: http.create_conversation(["bob"], "a title"),
    "listConversations": lambda http: http.conversations(limit=5, cursor="c"),
    "getConversation": lambda http: http.conversation(make.ROOM),
    "addMember": lambda http: http.add_member(make.ROOM, "bob"),
    "inviteMember": lambda http: http.invite_member(make.ROOM, "bob"),
    "listInvitations": lambda http: http.invitations(limit=5, cursor="c"),
    "acceptInvitation": lambda http: http.accept_invitation(make.ROOM),
    "declineInvitation": lambda http: http.decline_invitation(make.ROOM),
    "sendMessage": lambda http: http.send(make.ROOM, "hi", attachments=[make.ROOM], reply_to=make.ROOM),
    "listMessages": lambda http: http.messages(make.ROOM, after=1, before=9, limit=3),
    "recordReceipt": lambda http: http.record_receipts(make.ROOM, delivered_seq=2, read_seq=1, device="phone"),
    "getMessage": lambda http: http.message(make.ROOM),
    "listReceipts": lambda http: http.message_receipts(make.ROOM),
    "search": lambda http: http.search("mill", conversation_id=make.ROOM, limit=3, cursor="1"),
    "getLimits": lambda http: http.limits(),
    "listNotifications": lambda http: http.notifications(unseen=True, limit=3, cursor=make.ROOM),
    "markNotificationsSeen": lambda http: http.mark_notifications_seen(make.ROOM),
    "getAnalytics": lambda http: http.analytics(make.ROOM, start=make.AT, end=make.AT, limit=5),
    "issueTicket": lambda http: http.ticket(),
    "signMediaUrl": lambda http: http.media_url(make.ROOM, "thumbnail"),
}


@dataclass
class Request:
    """What a call sends."""

    method: str
    url: str
    body: Any


async def request_of(call: Callable[[HttpClient], Awaitable[Any]]) -> Request:
    """Return the request that a call makes; it is answered 404."""
    refusal = (404, {}, {"code": "not_found", "detail": "no such thing"})
    async with scripted(refusal) as server, open_http(f"http://127.0.0.1:{server.port}") as transport:
        with pytest.raises(NotFound):
            await call(HttpClient(transport, "token"))
    [(line, _, body)] = server.requests
    method, url, _ = line.split()
    return Request(method, url, body)


def operation_of(request: Request) -> Operation:
    path = urlsplit(request.url).path
    [found] = [
        operation
        for operation in routes.OPERATIONS
        if operation.method == request.method and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", operation.path), path)
    ]
    return found


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_is_one_of_the_contract_and_the_server_takes_its_body_and_query(name: str):
    request = await request_of(CALLS[name])
    operation = operation_of(request)
    query = dict(parse_qsl(urlsplit(request.url).query))
    assert query.keys() <= (fields_of(operation.query).keys() if operation.query else set())
    if operation.body is None:
        assert request.body is None
    else:
        msgspec.convert(request.body, type=operation.body)


async def test_the_client_makes_every_call_but_transfers_of_files():
    made = {operation_of(await request_of(call)).id for call in CALLS.values()}
    all_of_them = {operation.id for operation in routes.OPERATIONS if kind_of(operation) != "transfers"}
    assert all_of_them - made == {"removeMember"}  # there a 404 is the answer wanted
