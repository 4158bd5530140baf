"""``topics.yaml``, read and checked: the one declaration of every topic."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

_BESIDE = Path(__file__).with_name("topics.yaml")  # in a wheel
_ROOT = Path(__file__).parent.parent / "topics.yaml"  # in a checkout

OUTSIDE = frozenset(("data", "operators"))
"""Readers that are no consumer groups of Millrace."""
_DLQ, _RETRY = ".dlq", ".retry"


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic. ``retention_ms`` is None for compacted topics; ``content`` says whether bodies are in it."""

    name: str
    key: str
    schema: str
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    partitions: int
    replication: int
    cleanup: str
    retention_ms: int | None
    owner: str
    content: bool
    doc: str
    config: tuple[tuple[str, str], ...] = ()

    @property
    def settings(self) -> dict[str, str]:
        """The broker's settings of this topic."""
        retention = {} if self.retention_ms is None else {"retention.ms": str(self.retention_ms)}
        return {"cleanup.policy": self.cleanup, **retention, **dict(self.config)}

    @property
    def longest_ms(self) -> int:
        """The longest life of a record: it is deleted with its segment, which may be written to for segment.ms."""
        return (self.retention_ms or 0) + int(dict(self.config).get("segment.ms", _SEGMENT_MS))


class BadTopics(ValueError):
    """``topics.yaml`` does not say what it must; the text names topic and field."""


_UNITS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}
_MAX_CONTENT_MS = 7 * _UNITS["d"]
_SEGMENT_MS = 7 * _UNITS["d"]
"""The broker's default of segment.ms."""


def load(path: Path | None = None) -> tuple[Topic, ...]:
    """Return all topics in the order of the file. Raises BadTopics."""
    source = path or (_BESIDE if _BESIDE.exists() else _ROOT)
    raw = yaml.safe_load(source.read_text(encoding="utf-8"))
    defaults = raw.get("defaults", {})
    return tuple(_topic(name, {**defaults, **fields}) for name, fields in raw["topics"].items())


def dead_letter_topic(stage: str) -> str:
    """Return the name of the topic of records that the stage could not process."""
    return f"{stage}{_DLQ}"


def retry_topic(stage: str) -> str:
    """Return the name of the topic of dead letters that are replayed for the stage alone."""
    return f"{stage}{_RETRY}"


@cache
def stages() -> tuple[str, ...]:
    """Return the names of all stages: each has a topic of dead letters. Raises BadTopics."""
    return tuple(topic.name.removesuffix(_DLQ) for topic in load() if topic.name.endswith(_DLQ))


@cache
def partition_count() -> int:
    """Return the one partition count of all topics, so that a conversation has one partition number everywhere.

    Raises BadTopics.
    """
    counts = {topic.partitions for topic in load()}
    if len(counts) != 1:
        raise BadTopics(f"all topics must declare the same number of partitions, not {sorted(counts)}")
    return counts.pop()


@cache
def groups() -> tuple[str, ...]:
    """Return the consumer groups of Millrace itself: the stages, then the other readers. Raises BadTopics."""
    others = {reader: None for topic in load() for reader in topic.readers if reader not in (*stages(), *OUTSIDE)}
    return (*stages(), *others)


def _topic(name: str, fields: dict[str, Any]) -> Topic:
    try:
        topic = Topic(
            name=name,
            key=fields["key"],
            schema=fields["schema"],
            writers=tuple(fields["writers"]),
            readers=tuple(fields["readers"]),
            partitions=int(fields["partitions"]),
            replication=int(fields["replication"]),
            cleanup=fields["cleanup"],
            retention_ms=_millis(fields.get("retention")),
            owner=fields["owner"],
            content=bool(fields["content"]),
            doc=" ".join(fields["doc"].split()),
            config=tuple((k, str(v)) for k, v in fields.get("config", {}).items()),
        )
    except (KeyError, ValueError) as exc:
        raise BadTopics(f"{name}: {exc}") from exc
    if topic.content and (topic.retention_ms is None or topic.longest_ms > _MAX_CONTENT_MS):
        raise BadTopics(f"{name}: a topic with content keeps it at most 7 days: retention and segment.ms together")
    return topic


def _millis(text: str | None) -> int | None:
    return None if text is None else int(text[:-1]) * _UNITS[text[-1]]
