"""Foreign records: some thirty kinds of records that no process of ours writes, for every topic. Pure.

They stand for a relay on the wrong broker, a mirror of another installation, a store that was restored to an earlier
time, a bug, or somebody with write access to the broker.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

from schemas.clock import now
from schemas.events import (
    BY_TOPIC,
    AnyEvent,
    ConversationChange,
    ConversationChanged,
    ConversationCounted,
    MediaProcessed,
    MediaUploaded,
    MessageCreated,
    MessageSent,
    MessageStatus,
    NotificationSent,
    ReceiptRecorded,
    SearchIndexed,
)
from schemas.ids import new_id
from schemas.messages import Message

FORGED_TEXT = "nobody has said this"
STRANGER = "foreign.stranger"
_KEY_FIELDS = {MediaUploaded.TOPIC: "mediaId"}
_LONG = 60_000
_DEEP = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownMessage:
    """A message that the store has. Foreign records are close to it, so that they are hard to tell from true ones."""

    conversation_id: str
    message_id: str
    seq: int
    sender_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignRecord:
    """A record to be written. ``kind`` names what is wrong with it."""

    kind: str
    topic: str
    key: bytes | None
    value: bytes | None


Body: TypeAlias = dict[str, Any]
_Change: TypeAlias = Callable[[Body, KnownMessage, random.Random], None]
"""Makes a valid event foreign. The body is the part of the event that holds its ids."""


def foreign_records(
    topic: str, known: KnownMessage, rng: random.Random, kinds: tuple[str, ...] = ()
) -> Iterator[ForeignRecord]:
    """Yield one record of each kind, or of each of ``kinds``, for the topic."""
    for kind in kinds or KINDS:
        event = msgspec.to_builtins(_event(topic, known))
        key: bytes | None = known.conversation_id.encode()
        if kind in _KEYS:
            yield ForeignRecord(kind=kind, topic=topic, key=_KEYS[kind], value=msgspec.json.encode(event))
            continue
        if kind in _VALUES:
            value = _VALUES[kind](msgspec.json.encode(event))
        else:
            body = event.get("message", event)
            _CHANGES[kind](body, known, rng)
            value = msgspec.json.encode(event)
            key = str(body.get(_KEY_FIELDS.get(topic, "conversationId"), "")).encode()[:1000]
        yield ForeignRecord(kind=kind, topic=topic, key=key, value=value)


def _event(topic: str, known: KnownMessage) -> AnyEvent:
    """Return an event of the topic that is well-formed and near to the known message."""
    at, id_, seq = now(), known.conversation_id, known.seq
    message = Message(
        message_id=new_id(),
        conversation_id=id_,
        seq=seq,
        sender_id=known.sender_id,
        type="text",
        content=FORGED_TEXT,
        created_at=at,
    )
    match BY_TOPIC.get(topic, MessageCreated).__name__:
        case MessageSent.__name__:
            return MessageSent(message=message, sent_at=at)
        case ConversationChanged.__name__:
            change = ConversationChange.MEMBER_REMOVED
            return ConversationChanged(
                conversation_id=id_, seq=seq, change=change, user_id=known.sender_id, by=known.sender_id, at=at
            )
        case ReceiptRecorded.__name__:  # of a stranger: the receipt of a member is true when it says so
            return ReceiptRecorded(conversation_id=id_, user_id=STRANGER, delivered_seq=seq, read_seq=seq, at=at)
        case MessageStatus.__name__:
            far = seq + 1_000_000
            return MessageStatus(
                conversation_id=id_,
                user_id=STRANGER,
                status="read",
                seq=far,
                delivered_seq=far,
                read_seq=far,
                at=at,
                message_ids=(known.message_id,),
                notify=(known.sender_id,),
            )
        case NotificationSent.__name__:
            return NotificationSent(
                conversation_id=id_,
                notification_id=new_id(),
                message_id=known.message_id,
                seq=seq,
                user_id=known.sender_id,
                channel="in_app",
                at=at,
            )
        case MediaUploaded.__name__:
            return MediaUploaded(media_id=id_, owner_id=known.sender_id, size=seq, at=at)
        case MediaProcessed.__name__:
            return MediaProcessed(
                conversation_id=id_,
                seq=seq,
                message_id=known.message_id,
                media_id=new_id(),
                media_type="image/png",
                at=at,
            )
        case SearchIndexed.__name__:
            return SearchIndexed(conversation_id=id_, message_id=new_id(), seq=seq, at=at)
        case ConversationCounted.__name__:
            return ConversationCounted(conversation_id=id_, minute=at, messages=1_000_000, at=at)
        case _:
            return MessageCreated(message=message)


# Bytes that are no event.

_VALUES: Mapping[str, Callable[[bytes], bytes | None]] = {
    "tombstone": lambda _: None,
    "empty": lambda _: b"",
    "not-json": lambda _: b"hello",
    "not-utf8": lambda value: value.replace(b'"', b"\xff", 3),
    "scalar": lambda _: b"42",
    "array": lambda value: b"[" + value + b"]",
    "truncated": lambda value: value[:-2],
    "nested": lambda _: b"[" * _DEEP,
}

_KEYS: Mapping[str, bytes | None] = {"no-key": None, "key-not-utf8": b"\xff\xfe", "other-key": b"somewhere-else"}


# Fields that are not of their form.


def _without_field(body: Body, known: KnownMessage, rng: random.Random) -> None:
    del body[rng.choice(sorted(body))]


def _other_type(body: Body, known: KnownMessage, rng: random.Random) -> None:
    body[rng.choice(sorted(body))] = {"no": ["such", {"type": 1.5}]}


def _id(value: str) -> _Change:
    def change(body: Body, known: KnownMessage, rng: random.Random) -> None:
        name = rng.choice([name for name in body if name.endswith("Id")])
        body[name] = value

    return change


def _conversation(value: str) -> _Change:
    def change(body: Body, known: KnownMessage, rng: random.Random) -> None:
        body["conversationId"] = value

    return change


def _number(value: float) -> _Change:
    def change(body: Body, known: KnownMessage, rng: random.Random) -> None:
        numbers = [name for name in body if name.endswith(("seq", "Seq", "messages"))]
        for name in numbers:
            body[name] = value

    return change


def _unknown_word(body: Body, known: KnownMessage, rng: random.Random) -> None:
    for name in {"type", "status", "change", "channel"} & body.keys():
        body[name] = "teleported"


# Claims that are well-formed and that the store does not know.


def _unknown_conversation(body: Body, known: KnownMessage, rng: random.Random) -> None:
    body["conversationId"] = new_id()


def _ahead(by: int) -> _Change:
    def change(body: Body, known: KnownMessage, rng: random.Random) -> None:
        for name in [name for name in body if name.endswith(("seq", "Seq"))]:
            body[name] = known.seq + by

    return change


def _same_place(body: Body, known: KnownMessage, rng: random.Random) -> None:
    """Leave it as it is: another message, member or file at a seq that is taken."""


def _other_content(body: Body, known: KnownMessage, rng: random.Random) -> None:
    if "messageId" in body:
        body["messageId"] = known.message_id


def _other_place(body: Body, known: KnownMessage, rng: random.Random) -> None:
    _other_content(body, known, rng)
    body["conversationId"] = new_id()


_CLAIMS: Mapping[str, _Change] = {
    "unknown-conversation": _unknown_conversation,
    "next-seq": _ahead(1),
    "far-seq": _ahead(1_000_000),
    "same-place": _same_place,
    "other-content": _other_content,
    "other-place": _other_place,
}

_CHANGES: Mapping[str, _Change] = {
    "without-field": _without_field,
    "other-type": _other_type,
    "id-no-uuid": _id("staging-42"),
    "id-nul": _id("a\0b"),
    "id-escapes": _id("\x1b[31mred\x1b[0m\x1b]0;title\x07"),
    "id-long": _id("L" * _LONG),
    "conversation-no-uuid": _conversation("staging-42"),
    "conversation-nul": _conversation("a\0b"),
    "conversation-long": _conversation("L" * _LONG),
    "seq-negative": _number(-1),
    "seq-fraction": _number(1.5),
    "seq-beyond-json": _number(2**53 + 1),
    "seq-beyond-bigint": _number(2**63),
    "unknown-word": _unknown_word,
    **_CLAIMS,
}

KINDS: tuple[str, ...] = (*_VALUES, *_KEYS, *_CHANGES)
CLAIMS = frozenset(_CLAIMS)
"""Kinds that are well-formed: only the store can tell that they are foreign."""
