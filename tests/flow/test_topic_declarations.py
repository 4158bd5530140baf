"""topics.yaml, held to the code: who consumes each topic, and who really writes it."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml

import streams.stages
from adapters.memory.effects import (
    MemoryBlobs,
    MemoryCounts,
    MemoryIndex,
    MemoryMedia,
    MemoryNotifications,
    MemoryStatuses,
)
from adapters.memory.intake import MemoryConversations, MemoryIntake, MemoryOutbox
from adapters.memory.log import MemoryLog
from adapters.memory.messages import MemoryReceipts
from adapters.memory.parking import MemoryParking
from adapters.memory.redis import MemoryRegistry
from adapters.memory.tables import Tables
from domain.analytics import Counts
from domain.media import Blobs, Media, MediaFiles, MediaInfo
from domain.notifications import Notifications
from domain.parking import Parking
from domain.presence import Registry
from domain.search import Index
from domain.watermarks import Statuses
from gateway.dispatcher import GROUP, READS
from gateway.receipts import Receipts
from ingest.loss_detection import Continuity
from ingest.relay import Relay
from schemas.events import ReceiptRecorded
from schemas.topics import OUTSIDE, Topic, groups, load, stages
from streams.batch import Stage, process
from streams.dead_letters import ConsumerRecord
from streams.retry import RetryPolicy
from streams.stages.media import Probe
from tests import make

UPLOAD = "01900000-0000-7000-8000-00000000000a"
COMPOSE = Path(__file__).parents[2] / "compose.yaml"


async def probe(_: bytes, __: str) -> MediaInfo:
    return MediaInfo(media_type="image/png", width=4, height=3)


def twins(tables: Tables, media: MemoryMedia) -> dict[Any, Any]:
    """A twin for each port that a stage may have."""
    return {
        Statuses: MemoryStatuses(tables),
        Notifications: MemoryNotifications(tables),
        Registry: MemoryRegistry(),
        Counts: MemoryCounts(),
        Parking: MemoryParking(),
        Index: MemoryIndex(),
        MediaFiles: media,
        Blobs: MemoryBlobs(),
        Probe: probe,
    }


def built(name: str, ports: dict[Any, Any]) -> Stage:
    """The stage of that name, on twins."""
    create = import_module(f"streams.stages.{name}").create
    hints = {parameter: port for parameter, port in get_type_hints(create).items() if parameter != "return"}
    return create(**{parameter: ports[port] for parameter, port in hints.items()})


@pytest.fixture
def every_stage() -> list[Stage]:
    tables = Tables()
    return [built(name, twins(tables, MemoryMedia(tables))) for name in stages()]


def test_each_file_of_streams_stages_is_a_stage_of_its_name(every_stage):
    assert sorted(stages()) == sorted(module.name for module in pkgutil.iter_modules(streams.stages.__path__))
    assert [stage.name for stage in every_stage] == list(stages())


@pytest.mark.parametrize("topic", load(), ids=lambda topic: topic.name)
def test_a_topic_names_exactly_the_groups_that_consume_it(topic: Topic, every_stage):
    consumers = {stage.name for stage in every_stage if topic.name in {kind.TOPIC for kind in stage.reads}}
    if topic.name in {kind.TOPIC for kind in READS}:
        consumers.add(GROUP)
    assert set(topic.readers) - OUTSIDE == consumers
    assert consumers <= set(groups())


async def test_a_topic_names_exactly_those_that_write_it():
    """By what is in the log after everything has happened once."""
    tables, log = Tables(), MemoryLog()
    media = MemoryMedia(tables)
    conversations = MemoryConversations(tables)
    await conversations.create(make.ROOM, None, "alice", ["bob"])
    await conversations.add(make.ROOM, "carol", by="alice")
    await media.add(
        Media(media_id=UPLOAD, owner_id="alice", file_name="a.png", declared_type="image/png", size=1, sha256="a" * 64)
    )
    await MemoryIntake(tables).accept([make.draft("hi", attachments=[UPLOAD])])
    receipt = ReceiptRecorded(conversation_id=make.ROOM, user_id="bob", delivered_seq=1, at=make.AT)
    await MemoryReceipts(tables).record(receipt)
    outbox = MemoryOutbox(tables)
    await outbox.claim()
    await Relay(lambda: None, log, Continuity(log)).publish(outbox)
    receipts = Receipts(log)
    receipts.note(make.ROOM, "bob", "phone", delivered=2, read=2)
    await receipts.flush()
    ports = twins(tables, media)
    for name in stages():
        stage = built(name, ports)
        topics = {kind.TOPIC for kind in stage.reads}
        batch = [
            ConsumerRecord(record.topic, 0, offset, record.key, record.value, record.headers)
            for offset, record in enumerate(log.records)
            if record.topic in topics
        ]
        malformed = ConsumerRecord(stage.reads[0].TOPIC, 0, 1_000, b"key", b"no event")
        await process(stage, [*batch, malformed], log, RetryPolicy())
    assert set(_written(log)) == {(topic.name, writer) for topic in load() for writer in topic.writers}


def _written(log: MemoryLog) -> Iterator[tuple[str, str]]:
    for record in log.records:
        headers = dict(record.headers)
        source = headers.get("dlq-stage") or headers["ce_source"].removeprefix(b"millrace/")
        yield record.topic, source.decode()


def test_compose_runs_every_stage():
    services = yaml.safe_load(COMPOSE.read_text())["services"].values()
    commands = [service["command"] for service in services if "streams" in service.get("command", ())]
    assert sorted(command[-1] for command in commands) == sorted(stages())
