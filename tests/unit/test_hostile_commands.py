"""Frames of anybody, of every command, field by field: none raises, none is repeated, none hurts others."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.limits import Limits
from gateway.session import Close, Reply, Session
from schemas.commands import COMMANDS, MAX_FRAME, Ack, JoinConversation, LeaveConversation, Read, RefreshToken, Typing
from schemas.fields import MAX_SEQ
from schemas.frames import Error, encoded
from schemas.ids import is_uuid, new_id
from tests import make

UNCONFIRMED, UNKNOWN = new_id(), new_id()
TAGS = [command.__struct_config__.tag for command in COMMANDS]
NAMES = sorted({field.encode_name for command in COMMANDS for field in msgspec.structs.fields(command)} | {"type", "x"})
MARK = "\x1b[31mMARK"
"""Stands in every odd text, so that its repetition would be seen."""

texts = st.sampled_from(
    [MARK, "", "a\0b" + MARK, MARK * 900, "\ud800" + MARK, "conversation:*" + MARK, UNKNOWN.upper()]
)
ids = st.sampled_from([make.ROOM, UNCONFIRMED, UNKNOWN])
numbers = st.one_of(
    st.integers(-3, 9), st.sampled_from([MAX_SEQ, MAX_SEQ + 1, 2**63, 2**64, -(2**63), 10**400, 0.5, 1e300])
)
values: st.SearchStrategy[Any] = st.one_of(
    ids, texts, numbers, st.none(), st.booleans(), st.just([MARK]), st.just({"id": make.ROOM})
)
fields = st.dictionaries(st.sampled_from(NAMES), values, max_size=5)


@st.composite
def frames(draw: st.DrawFn) -> str:
    """A frame of a known type with any of the fields of any command; now and then of another type, or broken."""
    said = {**draw(fields), "type": draw(st.sampled_from([*TAGS, MARK, None]))}
    raw = json.dumps(said)
    return draw(st.sampled_from([raw, raw, raw, raw, raw[:-1], f"[{raw}]", "[" * 20_000]))


@settings(max_examples=400, deadline=None)
@given(st.lists(frames(), min_size=1, max_size=5))
def test_whatever_a_frame_holds_its_effect_is_about_what_is_confirmed(raws):
    session = Session("bob", {make.ROOM}, {make.ROOM, UNCONFIRMED}, Limits(frames_per_s=0))
    for raw in raws:
        match session.receive(raw, 0.0):
            case Reply(frame=frame):
                answer = encoded(frame)
                assert len(answer) < 512
                assert not isinstance(frame, Error) or frame.ref is not msgspec.UNSET or b"MARK" not in answer
            case JoinConversation(id=id_, after=after):
                assert is_uuid(id_)
                assert after is None or 0 <= after <= MAX_SEQ
            case LeaveConversation(id=id_):
                assert id_ in (make.ROOM, UNCONFIRMED)
            case Ack() | Read() as receipt:
                assert receipt.conversation_id in (None, make.ROOM)
                assert (receipt.seq is None) != (receipt.message_id is None)
                assert receipt.seq is None or 1 <= receipt.seq <= MAX_SEQ
                assert receipt.message_id is None or is_uuid(receipt.message_id)
            case Typing(conversation_id=id_):
                assert id_ == make.ROOM
            case RefreshToken() | Close():
                pass


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__struct_config__.tag)
def test_every_command_is_drawn(command):
    """Every field of every command is one of those that are drawn, and a frame fits its size."""
    assert {field.encode_name for field in msgspec.structs.fields(command)} <= set(NAMES)
    assert len(json.dumps(MARK * 900)) < MAX_FRAME
