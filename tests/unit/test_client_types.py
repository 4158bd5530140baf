"""The client library's types against the contract: each frame and its fields are there, by their names on the wire."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest
from millrace_client import frames as client
from msgspec import Struct

from schemas import commands, frames


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
