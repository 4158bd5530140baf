"""AsyncAPI 3 of the Kafka topics."""

from __future__ import annotations

from collections.abc import Iterable

from schemas.codec import headers
from schemas.events import BY_TOPIC, EVENTS
from schemas.fields import Uuid
from schemas.json_schema import Schema, components, inline
from schemas.openapi import VERSION
from schemas.topics import Topic, load

_TEMPLATE = "#/components/schemas/{name}"
_KAFKA = "0.5.0"
_LETTER_HEADERS = ("dlq-id", "dlq-stage", "dlq-cause", "dlq-attempts", "dlq-origin", "dlq-time")


def asyncapi() -> Schema:
    """Return the document. Millrace is the application: it sends what its topics and sockets carry outwards."""
    topics = load()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Millrace",
            "version": VERSION,
            "description": "Events on Kafka. Ignore fields that you do not know, and dedupe by `ce_id`.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"kafka": {"host": "localhost:9092", "protocol": "kafka"}},
        "channels": {topic.name: _topic(topic) for topic in topics},
        "operations": {operation: made for topic in topics for operation, made in _operations(topic).items()},
        "components": {
            "messages": {**{kind.TOPIC: _event(kind.TOPIC) for kind in EVENTS}, "deadLetter": _letter()},
            "schemas": components(written=EVENTS, template=_TEMPLATE),
        },
    }


def _topic(topic: Topic) -> Schema:
    message = _message_of(topic)
    retention = {} if topic.retention_ms is None else {"retention.ms": topic.retention_ms}
    largest = {key: int(value) for key, value in topic.config if key == "max.message.bytes"}
    return {
        "address": topic.name,
        "description": topic.doc,
        "servers": [{"$ref": "#/servers/kafka"}],
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "replicas": topic.replication,
                "topicConfiguration": {"cleanup.policy": [topic.cleanup], **retention, **largest},
                "bindingVersion": _KAFKA,
            }
        },
        "x-owner": topic.owner,
        "x-writers": list(topic.writers),
        "x-readers": list(topic.readers),
    }


def _operations(topic: Topic) -> dict[str, Schema]:
    """Return an operation for each direction in which Millrace uses the topic."""
    channel = {"$ref": f"#/channels/{topic.name}"}
    directions = {"send": topic.writers, "receive": [reader for reader in topic.readers if reader != "data"]}
    return {
        f"{action}:{topic.name}": {"action": action, "channel": channel, "summary": f"by {', '.join(names)}"}
        for action, names in directions.items()
        if names
    }


def _message_of(topic: Topic) -> str:
    return topic.name if topic.name in BY_TOPIC else "deadLetter"


def _event(topic: str) -> Schema:
    kind = BY_TOPIC[topic]
    return {
        "name": f"{topic}.v{kind.VERSION}",
        "summary": (kind.__doc__ or "").partition("\n")[0].replace("``", "`"),
        "headers": _texts(name for name, _ in headers(topic, "", "")),
        "payload": {"$ref": _TEMPLATE.format(name=kind.__name__)},
        "bindings": {"kafka": {"key": inline(Uuid), "bindingVersion": _KAFKA}},
    }


def _letter() -> Schema:
    return {
        "name": "deadLetter",
        "summary": "A record that a stage could not process, with its original bytes.",
        "contentType": "application/octet-stream",
        "headers": _texts(_LETTER_HEADERS),
        "payload": {"description": "the original bytes"},
        "bindings": {"kafka": {"bindingVersion": _KAFKA}},
    }


def _texts(names: Iterable[str]) -> Schema:
    names = list(names)
    return {"type": "object", "properties": {name: {"type": "string"} for name in names}, "required": names}
