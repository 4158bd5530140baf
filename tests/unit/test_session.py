"""The protocol of one socket, without a socket."""

from __future__ import annotations

import json

import orjson
import pytest

from gateway.limits import BURST_S, Limits
from gateway.session import BAD_FRAME, TOO_MANY, UNCONFIRMED_MAX, Reply, Session
from schemas.commands import Ack, JoinConversation, LeaveConversation, Read, RefreshToken, Typing
from schemas.frames import Pong, encoded
from schemas.ids import new_id
from tests import make

OTHER = new_id()
BURST = int(Limits().frames_per_s * BURST_S)


@pytest.fixture
def session() -> Session:
    joined = {make.ROOM}
    return Session("bob", joined, joined)


def say(session: Session, now: float = 0.0, **fields):
    return session.receive(orjson.dumps(fields), now)


def refused(effect) -> dict:
    assert isinstance(effect, Reply), effect
    said = orjson.loads(encoded(effect.frame))
    assert said["type"] == "error"
    return said


def test_a_join_names_where_to_replay_from(session):
    assert say(session, type="join_conversation", id=OTHER, after=5, ref="r") == JoinConversation(OTHER, 5, "r")
    assert say(session, type="join_conversation", id=OTHER) == JoinConversation(OTHER)


def test_commands_become_effects(session):
    assert say(session, type="leave_conversation", id=make.ROOM) == LeaveConversation(make.ROOM)
    assert say(session, type="ack", conversationId=make.ROOM, seq=3) == Ack(make.ROOM, 3)
    assert say(session, type="read", messageId=OTHER) == Read(message_id=OTHER)
    assert say(session, type="auth.refresh", token="t") == RefreshToken("t")


def test_ping_is_answered_with_its_ref(session):
    effect = say(session, type="ping", ref=7)
    assert orjson.loads(encoded(effect.frame)) == {"type": "pong", "ref": 7}


def test_typing_needs_no_id_when_one_conversation_is_joined(session):
    assert say(session, type="typing", isTyping=True) == Typing(True, make.ROOM)
    session.joined.add(OTHER)
    assert refused(say(session, type="typing", isTyping=True))["code"] == "invalid"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"type": "leave_conversation", "id": OTHER}, "not_found"),
        ({"type": "ack", "conversationId": OTHER, "seq": 1}, "not_found"),
        ({"type": "typing", "conversationId": OTHER, "isTyping": True}, "not_found"),
        ({"type": "ack", "seq": 1}, "invalid"),
        ({"type": "ack", "conversationId": make.ROOM}, "invalid"),
        ({"type": "ack", "conversationId": make.ROOM, "seq": 1, "messageId": OTHER}, "invalid"),
        ({"type": "ack", "conversationId": make.ROOM, "seq": -1}, "invalid"),
        ({"type": "ack", "conversationId": make.ROOM, "seq": 0}, "invalid"),
        ({"type": "read", "conversationId": make.ROOM, "seq": 0}, "invalid"),
        ({"type": "ack", "conversationId": make.ROOM, "seq": 2**53}, "invalid"),
        ({"type": "ack", "conversationId": "x", "seq": 1}, "not_found"),
        ({"type": "ack", "messageId": "x"}, "not_found"),
        ({"type": "join_conversation", "id": "L" * 60_000}, "not_found"),
        ({"type": "join_conversation", "id": OTHER.upper()}, "not_found"),
        ({"type": "leave_conversation", "id": "a\0b"}, "not_found"),
        ({"type": "join_conversation", "id": OTHER, "after": 1, "epoch": "1-a\0b"}, "invalid"),
        ({"type": "join_conversation", "id": OTHER, "after": 1, "epoch": ""}, "invalid"),
        ({"type": "join_conversation", "id": OTHER, "after": 1, "epoch": "e" * 65}, "invalid"),
        ({"type": "typing", "conversationId": "x", "isTyping": True}, "not_found"),
        ({"type": "ack", "conversationId": make.ROOM, "seq": "1"}, "invalid"),
        ({"type": "dance"}, "invalid"),
        ({"type": "ping", "extra": 1}, "invalid"),
        ({}, "invalid"),
    ],
)
def test_a_wrong_frame_is_an_error_with_its_ref(session, fields, code):
    said = refused(say(session, ref="mine", **fields))
    assert (said["code"], said["ref"]) == (code, "mine")


@pytest.mark.parametrize("raw", ["", "x", "[]", "null", b"\xff", "[" * 50_000, '{"type":"ping"'])
def test_garbage_is_an_error_and_repeated_garbage_the_end(session, raw):
    effects = [session.receive(raw, 0.0) for _ in range(10)]
    assert all(refused(effect)["code"] == "invalid" for effect in effects[:-1])
    assert effects[-1] == BAD_FRAME


def test_a_bad_frame_now_and_then_is_no_end(session):
    for minute in range(100):
        assert refused(session.receive("x", minute * 60.0))["code"] == "invalid"
    effects = [session.receive("x", 100 * 60.0) for _ in range(10)]
    assert effects[-1] == BAD_FRAME


def test_joins_are_bounded_in_a_second_but_all_come_back_at_once():
    session = Session("bob", set(), set(), Limits(joins_per_s=5, max_subscriptions=40))
    assert all(isinstance(say(session, type="join_conversation", id=new_id()), JoinConversation) for n in range(40))
    assert refused(say(session, type="join_conversation", id=OTHER))["code"] == "rate_limited"
    assert isinstance(say(session, now=0.2, type="join_conversation", id=OTHER), JoinConversation)


def test_limits_of_zero_are_none():
    joined = {new_id() for n in range(300)}
    session = Session("bob", joined, joined, Limits(frames_per_s=0, joins_per_s=0, max_subscriptions=0))
    assert all(isinstance(say(session, type="join_conversation", id=OTHER), JoinConversation) for _ in range(1000))


def test_a_flood_is_warned_once_and_then_ended(session):
    effects = [say(session, type="ping") for _ in range(BURST + 2)]
    assert refused(effects[-2])["code"] == "rate_limited"
    assert effects[-1] == TOO_MANY


def test_a_pause_restores_the_rate(session):
    for _ in range(BURST):
        say(session, type="ping")
    assert say(session, now=1.0, type="ping") == Reply(Pong())


def test_the_number_of_joined_conversations_is_bounded_with_those_under_way(session):
    session.subscribed.update(new_id() for n in range(199))
    assert refused(say(session, type="join_conversation", id=OTHER))["code"] == "rate_limited"
    assert isinstance(say(session, type="join_conversation", id=next(iter(session.subscribed))), JoinConversation)


def test_joins_under_way_are_bounded_where_joined_conversations_are_not():
    session = Session("bob", set(), {new_id() for _ in range(UNCONFIRMED_MAX)}, Limits(max_subscriptions=0))
    said = refused(say(session, type="join_conversation", id=OTHER))
    assert (said["code"], said["retryAfterMs"]) == ("rate_limited", 1000)


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "ack", "seq": 1},
        {"type": "read", "seq": 1},
        {"type": "typing", "isTyping": True},
    ],
)
def test_a_conversation_whose_membership_is_not_confirmed_is_like_an_unknown_one(fields):
    session = Session("bob", {make.ROOM}, {make.ROOM, OTHER})
    unconfirmed, unknown = (refused(say(session, conversationId=id_, **fields)) for id_ in (OTHER, new_id()))
    assert unconfirmed == unknown
    assert unknown["code"] == "not_found"
    assert say(session, type="leave_conversation", id=OTHER) == LeaveConversation(OTHER)


@pytest.mark.parametrize("ref", ["r" * 129, 2**53 + 1, "\x1b" * 60_000, 10**400])
def test_a_ref_that_is_too_long_is_not_echoed(session, ref):
    assert "ref" not in refused(session.receive(json.dumps({"type": "ping", "ref": ref}), 0.0))


def test_no_error_repeats_what_was_sent(session):
    for field in ("id", "type", "x" * 1000):
        effect = session.receive(json.dumps({"type": "leave_conversation", "id": OTHER, field: "SECRET" * 5000}), 0.0)
        assert len(encoded(effect.frame)) < 300
        assert b"SECRET" not in encoded(effect.frame)
