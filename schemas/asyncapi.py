"""AsyncAPI 3 of the WebSocket and the Kafka topics."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from schemas.codec import headers
from schemas.commands import COMMANDS
from schemas.events import BY_TOPIC, EVENTS
from schemas.fields import CheckedDevice, Uuid
from schemas.frames import FRAMES
from schemas.json_schema import Schema, components, inline
from schemas.openapi import VERSION
from schemas.topics import Topic, load

_TEMPLATE = "#/components/schemas/{name}"
_DESCRIPTION = (
    "Frames on a WebSocket and events on Kafka. Ignore fields, frames and values that you do not know. Dedupe events "
    "by `ce_id`."
)
_KAFKA = "0.5.0"
_SECURITY: Schema = {
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    "ticket": {"type": "httpApiKey", "in": "query", "name": "ticket", "description": "of `POST /ws-ticket`"},
    "subprotocol": {
        "type": "httpApiKey",
        "in": "header",
        "name": "Sec-WebSocket-Protocol",
        "description": "`bearer.<JWT>` beside `millrace.v1`",
    },
    "token": {"type": "httpApiKey", "in": "query", "name": "token", "description": "the JWT"},
}
_LETTER_HEADERS = ("dlq-id", "dlq-stage", "dlq-cause", "dlq-attempts", "dlq-origin", "dlq-time")
_RETRY_HEADERS = ("replay", "dlq-origin", "dlq-attempts", "dlq-round")


def asyncapi() -> Schema:
    """Return the document. Millrace is the application: it sends what it writes, and receives what it reads."""
    topics = sorted(load(), key=lambda topic: topic.name)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Millrace",
            "version": VERSION,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "gateway": {
                "host": "localhost:8080",
                "protocol": "ws",
                "security": [{"$ref": f"#/components/securitySchemes/{name}"} for name in _SECURITY],
            },
            "kafka": {"host": "localhost:9092", "protocol": "kafka"},
        },
        "channels": {"socket": _socket(), **{topic.name: _topic(topic) for topic in topics}},
        "operations": {
            "receiveCommand": _on_socket("receive", COMMANDS, "Commands of a client."),
            "sendFrame": _on_socket("send", FRAMES, "Frames of the server."),
            **{operation: made for topic in topics for operation, made in _operations(topic).items()},
        },
        "components": {
            "messages": {
                **{kind.__name__: _frame(kind) for kind in (*COMMANDS, *FRAMES)},
                **{kind.TOPIC: _event(kind.TOPIC) for kind in EVENTS},
                "deadLetter": _letter(
                    "deadLetter", "A record that a stage could not process, with its original bytes.", _LETTER_HEADERS
                ),
                "retry": _letter(
                    "retry",
                    "A dead letter that is replayed for its stage alone, with its original bytes.",
                    _RETRY_HEADERS,
                ),
            },
            "schemas": components(read=COMMANDS, written=(*FRAMES, *EVENTS), template=_TEMPLATE),
            "securitySchemes": _SECURITY,
        },
    }


def _socket() -> Schema:
    kinds = (*COMMANDS, *FRAMES)
    query = {
        "type": "object",
        "properties": {
            "device": {**inline(CheckedDevice), "description": "names the device; `-` when left out"},
            "ticket": {"type": "string"},
            "token": {"type": "string"},
        },
    }
    return {
        "address": "/ws",
        "description": "One JSON object in each text frame. Any command may carry `ref`; what answers it does too.",
        "servers": [{"$ref": "#/servers/gateway"}],
        "messages": {kind.__name__: {"$ref": f"#/components/messages/{kind.__name__}"} for kind in kinds},
        "bindings": {"ws": {"method": "GET", "query": query, "bindingVersion": "0.1.0"}},
    }


def _on_socket(action: str, kinds: Iterable[type[Struct]], summary: str) -> Schema:
    return {
        "action": action,
        "channel": {"$ref": "#/channels/socket"},
        "summary": summary,
        "messages": [{"$ref": f"#/channels/socket/messages/{kind.__name__}"} for kind in kinds],
    }


def _frame(kind: type[Struct]) -> Schema:
    """Return the message of a command or a frame."""
    return {
        "name": str(kind.__struct_config__.tag),
        "summary": _summary(kind),
        "payload": {"$ref": _TEMPLATE.format(name=kind.__name__)},
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
    if topic.name in BY_TOPIC:
        return topic.name
    return "retry" if topic.name.endswith(".retry") else "deadLetter"


def _event(topic: str) -> Schema:
    kind = BY_TOPIC[topic]
    return {
        "name": f"{topic}.v{kind.VERSION}",
        "summary": _summary(kind),
        "headers": _texts(name for name, _ in headers(topic, "", "")),
        "payload": {"$ref": _TEMPLATE.format(name=kind.__name__)},
        "bindings": {"kafka": {"key": inline(Uuid), "bindingVersion": _KAFKA}},
    }


def _summary(kind: type[Struct]) -> str:
    return (kind.__doc__ or "").partition("\n")[0].replace("``", "`")


def _letter(name: str, summary: str, headers: Iterable[str]) -> Schema:
    return {
        "name": name,
        "summary": summary,
        "contentType": "application/octet-stream",
        "headers": _texts(headers),
        "payload": {"description": "the original bytes"},
        "bindings": {"kafka": {"bindingVersion": _KAFKA}},
    }


def _texts(names: Iterable[str]) -> Schema:
    names = list(names)
    return {"type": "object", "properties": {name: {"type": "string"} for name in names}, "required": names}
