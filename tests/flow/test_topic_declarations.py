"""topics.yaml, held to the code: who consumes each topic, and who really writes it."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml

import adapters.memory
import streams.stages
from adapters.kafka.consumer import Received
from adapters.memory.intake import MemoryConversations, MemoryIntake, MemoryOutbox
from adapters.memory.log import MemoryLog
from adapters.memory.media import MemoryMedia
from adapters.memory.messages import MemoryReceipts
from adapters.memory.tables import Tables
from domain.media import Media, MediaFiles, MediaInfo
from gateway.dispatcher import GROUP, READS
from gateway.receipts import Receipts
from ingest.loss_detection import LossDetector
from ingest.relay import Relay
from schemas.codec import Record
from schemas.events import ReceiptRecorded
from schemas.topics import OUTSIDE, Topic, groups, load, stages
from streams.batch import process
from streams.dead_letters import ConsumerRecord
from streams.letters import newest
from streams.replay import Part, records
from streams.retry import RetryPolicy
from streams.stage import Stage
from streams.stages.media import Probe
from tests import make

UPLOAD = "01900000-0000-7000-8000-00000000000a"
COMPOSE = Path(__file__).parents[2] / "compose.yaml"


async def probe(_: bytes, __: str) -> MediaInfo:
    return MediaInfo(media_type="image/png", width=4, height=3)


def twins_of(tables: Tables) -> Callable[[Any], Any]:
    """Return the twin of each port: MemoryNAME for the port NAME, on these tables; always the same one."""
    given = {MediaFiles: MemoryMedia(tables), Probe: probe}
    classes = [
        found
        for module in pkgutil.iter_modules(adapters.memory.__path__)
        for _, found in inspect.getmembers(import_module(f"adapters.memory.{module.name}"), inspect.isclass)
    ]

    def twin(port: Any) -> Any:
        if port not in given:
            [kind] = {found for found in classes if found.__name__ == f"Memory{port.__name__}"}
            build: Callable[..., Any] = kind
            needs_tables = "tables" in inspect.signature(kind).parameters
            given[port] = build(tables) if needs_tables else build()
        return given[port]

    return twin


def built(name: str, twin: Callable[[Any], Any]) -> Stage:
    """Return the stage of that name, on twins; its settings have their defaults."""
    create = import_module(f"streams.stages.{name}").create
    parameters = inspect.signature(create).parameters.values()
    required = {parameter.name for parameter in parameters if parameter.default is parameter.empty}
    hints = {parameter: port for parameter, port in get_type_hints(create).items() if parameter in required}
    return create(**{parameter: twin(port) for parameter, port in hints.items()})


@pytest.fixture
def every_stage() -> list[Stage]:
    twin = twins_of(Tables())
    return [built(name, twin) for name in stages()]


def test_each_file_of_streams_stages_is_a_stage_of_its_name(every_stage):
    assert sorted(stages()) == sorted(module.name for module in pkgutil.iter_modules(streams.stages.__path__))
    assert [stage.name for stage in every_stage] == list(stages())


@pytest.mark.parametrize("topic", load(), ids=lambda topic: topic.name)
def test_a_topic_names_exactly_the_groups_that_consume_it(topic: Topic, every_stage):
    consumers = {stage.name for stage in every_stage if topic.name in stage.topics}
    if topic.name in {kind.TOPIC for kind in READS}:
        consumers.add(GROUP)
    assert set(topic.readers) - OUTSIDE == consumers
    assert consumers <= set(groups())


async def test_a_topic_names_exactly_those_that_write_it():
    """By what is in the log after everything has happened once."""
    tables, log = Tables(), MemoryLog()
    twin = twins_of(tables)
    conversations = MemoryConversations(tables)
    await conversations.create(make.ROOM, None, "alice", ["bob"])
    await conversations.add(make.ROOM, "carol", by="alice")
    await twin(MediaFiles).add(
        Media(media_id=UPLOAD, owner_id="alice", file_name="a.png", declared_type="image/png", size=1, sha256="a" * 64)
    )
    await MemoryIntake(tables).accept([make.draft("hi", attachments=[UPLOAD]), make.draft("an answer", sender="bob")])
    receipt = ReceiptRecorded(conversation_id=make.ROOM, user_id="bob", delivered_seq=1, at=make.AT)
    await MemoryReceipts(tables).record(receipt)
    outbox = MemoryOutbox(tables)
    await outbox.claim()
    await Relay(lambda: None, log, LossDetector(log)).publish(outbox)
    receipts = Receipts(log)
    receipts.note(make.ROOM, "bob", "phone", delivered=2, read=2)
    await receipts.flush()
    for name in stages():
        stage = built(name, twin)
        topics = {kind.TOPIC for kind in stage.reads}
        batch = [
            ConsumerRecord(record.topic, 0, offset, record.key, record.value, record.headers)
            for offset, record in enumerate(log.records)
            if record.topic in topics
        ]
        malformed = ConsumerRecord(stage.reads[0].TOPIC, 0, 1_000, b"key", b"no event")
        await process(stage, [*batch, malformed], log, RetryPolicy(), make.done)
        await log.append([_retry(stage, log)])
    assert set(_written(log)) == {(topic.name, writer) for topic in load() for writer in topic.writers}


def _retry(stage: Stage, log: MemoryLog) -> Record:
    """Return the dead letter of the stage as an operator replays it."""
    found = [record for record in log.records if record.topic == stage.dead_letters]
    [letter] = newest((Received(r.topic, 0, n, r.key, r.value, r.headers) for n, r in enumerate(found)), {})
    [again] = records(stage.name, Part(letter.conversation_id, [letter], None))
    return again


def _written(log: MemoryLog) -> Iterator[tuple[str, str]]:
    for record in log.records:
        headers = dict(record.headers)
        if "replay" in headers:
            yield record.topic, "operators"
            continue
        source = headers.get("dlq-stage") or headers["ce_source"].removeprefix(b"millrace/")
        yield record.topic, source.decode()


def test_compose_runs_every_stage():
    services = yaml.safe_load(COMPOSE.read_text())["services"].values()
    commands = [service["command"] for service in services if "streams" in service.get("command", ())]
    assert sorted(command[-1] for command in commands) == sorted(stages())
