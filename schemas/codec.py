"""Events to Kafka records and back. Headers follow the Kafka binding of CloudEvents 1.0, binary mode."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from schemas.clock import now
from schemas.events import BY_TOPIC, AnyEvent, MediaUploaded
from schemas.fields import PATTERN_TEXTS

Headers = tuple[tuple[str, bytes], ...]
REPLAY = ("replay", b"true")
"""Header of a record that was published before: readers tell nobody again what is complete."""

EPOCH = "ce_epoch"
"""Header with the epoch of the store from which the relay has published the record."""


def headers_of(pairs: Iterable[tuple[str, bytes | None]]) -> Headers:
    """Return the headers of a record that was read; Kafka lets a header have no value, which becomes an empty one."""
    return tuple((name, value or b"") for name, value in pairs)


class Malformed(ValueError):
    """Bytes that are not a valid event. The text names the field, never its value."""


@dataclass(frozen=True, slots=True)
class Record:
    """Record for Kafka, in its final bytes."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers = ()


_PATTERNS = {f"`str` matching regex {pattern!r}": text for pattern, text in PATTERN_TEXTS.items()}
_encoder = msgspec.json.Encoder()
_decoders = {topic: msgspec.json.Decoder(kind) for topic, kind in BY_TOPIC.items()}


def key_of(event: AnyEvent) -> str:
    """Return the key of the event's record, which gives its partition: order holds within a key.

    It is the conversation, or the upload that belongs to none.
    """
    return event.media_id if isinstance(event, MediaUploaded) else event.conversation_id


def encode(event: AnyEvent) -> bytes:
    """Return the event as JSON: the value of its record."""
    return _encoder.encode(event)


def record(event: AnyEvent, *, producer: str, is_replay: bool = False) -> Record:
    """Return the event as a record of its topic, keyed by its conversation or its upload."""
    about = headers(event.TOPIC, event.event_id, producer, is_replay=is_replay)
    return Record(event.TOPIC, key_of(event).encode(), encode(event), about)


def headers(topic: str, event_id: str, producer: str, *, is_replay: bool = False, epoch: str | None = None) -> Headers:
    """Return the headers of a record of ours; ``is_replay`` adds REPLAY, ``epoch`` that of the store as EPOCH."""
    return (
        *((REPLAY,) if is_replay else ()),
        *(((EPOCH, epoch.encode()),) if epoch else ()),
        ("ce_specversion", b"1.0"),
        ("ce_id", event_id.encode()),
        ("ce_type", topic.encode()),
        ("ce_source", producer.encode()),
        ("ce_time", now().encode()),
        ("ce_dataschema", f"{topic}.v{BY_TOPIC[topic].VERSION}".encode()),
        ("content-type", b"application/json"),
    )


def decode(topic: str, key: bytes | None, value: bytes | None) -> AnyEvent:
    """Return the event of a record. Raises Malformed, also when the key is not that of the event.

    An event that is returned has well-formed ids, times and numbers, and texts and lists of bounded length: no reader
    and no store is brought down by its values. Whether what it says is true, only the store knows.
    """
    if value is None:
        raise Malformed("the record has no value")
    try:
        decoder = _decoders[topic]
    except KeyError:
        raise Malformed(f"{topic} carries no event of ours") from None
    try:
        event = decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise Malformed(_without_values(exc)) from exc
    if key != key_of(event).encode():
        raise Malformed("the key must be the id of the conversation or of the upload")
    return event


def _without_values(exc: Exception) -> str:
    # msgspec quotes the place and the expected type; only a wrong enum value is quoted itself.
    text = str(exc).split("value '")[0]
    for pattern, words in _PATTERNS.items():
        text = text.replace(pattern, words)
    return f"{type(exc).__name__}: {text[:200]}"
