"""What ``POST /messages`` takes and what it refuses."""

from __future__ import annotations

import orjson
import pytest

from domain.errors import Invalid
from ingest.http.params import parse
from ingest.http.validation import draft
from schemas.calls import NewConversation, NewMessage
from tests import make

GOOD = {"conversationId": make.ROOM, "type": "text", "content": "hi"}


def refused(body: object) -> Invalid:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    with pytest.raises(Invalid) as caught:
        draft(parse(NewMessage, raw), sender_id="alice", idempotency_key=None)
    return caught.value


def test_equivalent_texts_are_stored_as_typed_and_are_the_same_message():
    composed, decomposed = make.draft("\u00e9\r\n"), make.draft("e\u0301\n")
    assert (composed.content, decomposed.content) == ("\u00e9\n", "e\u0301\n")
    assert composed.body_hash == decomposed.body_hash


@pytest.mark.parametrize("text", ["   ", "\r\n", "\u200b", "\u3164\u2800", "\ufeff", "\u115f\u1160"])
def test_a_blank_message_needs_an_attachment(text):
    assert "visible" in refused({**GOOD, "content": text}).errors[0][1]
    assert make.draft(text, attachments=[make.ROOM]).content == text.replace("\r", "")


def test_everything_a_client_says_counts_in_the_hash():
    plain = make.draft("hi")
    others = [make.draft("ho"), make.draft("hi", type="file"), make.draft("hi", replyTo=make.ROOM)]
    assert len({plain.body_hash, *(d.body_hash for d in others)}) == 4


@pytest.mark.parametrize("text", ["\x00", "a\x1bb", "\x7f", "\ufffe", "\U0001ffff"])
def test_characters_that_no_text_may_hold_are_refused(text):
    assert refused({**GOOD, "content": text}).errors[0][0] == "$.content"


@pytest.mark.parametrize("text", ["a\tb\nc", "\u202eabc", "👩‍👩‍👧", "x" * 4000])
def test_ordinary_text_is_kept_as_it_is(text):
    assert make.draft(text).content == text


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"content": ""}, "$.content"),
        ({"content": "x" * 4001}, "$.content"),
        ({"conversationId": "no"}, "$.conversationId"),
        ({"conversationId": make.ROOM.replace("0001", "000A")}, "$.conversationId"),
        ({"replyTo": "x"}, "$.replyTo"),
        ({"attachments": ["x"]}, "$.attachments[0]"),
        ({"type": "song"}, "$.type"),
        ({"content": 5}, "$.content"),
        ({"clientMessageId": "a b"}, "$.clientMessageId"),
    ],
)
def test_a_wrong_field_is_named_by_its_path(change, path):
    assert refused({**GOOD, **change}).errors[0][0] == path


def test_an_unknown_field_is_refused_so_that_nobody_sets_the_sender():
    assert "senderId" in refused({**GOOD, "senderId": "mallory"}).errors[0][1]


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff\xfe", b'{"content":"\\ud800"}', b"[" * 100_000, b"null"])
def test_garbage_is_invalid_and_nothing_else(raw):
    assert refused(raw).code == "invalid"


def test_an_error_never_repeats_what_was_said():
    said = refused({**GOOD, "type": "my-secret"})
    assert "my-secret" not in f"{said}{said.errors}"


def test_an_attachment_may_stand_without_text():
    assert make.draft("", attachments=[make.ROOM]).attachments == (make.ROOM,)


def test_header_and_field_name_the_same_key():
    assert make.draft(key="k").client_message_id == make.draft(clientMessageId="k").client_message_id == "k"
    with pytest.raises(Invalid, match="clientMessageId must be the same"):
        make.draft(key="k", clientMessageId="other")


def test_a_user_id_of_another_form_cannot_be_a_member():
    with pytest.raises(Invalid):
        parse(NewConversation, b'{"members":["a b"]}')
