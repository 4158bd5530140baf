"""Turns of the media stage: one user's dear pictures delay nobody else, and each message gets on in parts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from adapters.memory.blobs import MemoryBlobs
from adapters.memory.log import MemoryLog
from adapters.memory.media import MemoryMedia
from adapters.memory.messages import MemoryMessages
from adapters.memory.tables import ConversationRow, Tables
from domain.media import Media, MediaInfo, ProbeInterrupted, blob
from runtime.kafka_settings import Kafka
from schemas.codec import record
from schemas.events import MediaProcessed, MediaUploaded, MessageCreated
from schemas.ids import new_id
from streams.batch import process, turn_of
from streams.dead_letters import ConsumerRecord
from streams.deliveries import Chunk
from streams.retry import RetryPolicy, TurnEnded
from streams.stage import Refused, Stage
from streams.stages.media import HandleMedia, create, owner
from streams.stored_messages import WithStoredMessages
from streams.turns import Turn, lane_key
from streams.worker import Worker
from tests import make

PICTURE = MediaInfo(media_type="image/png", width=4, height=3, clean=b"clean", thumbnail=b"small", served="clean")


@dataclass
class Probes:
    """Probes that end when the test wants it, as the test wants it."""

    begun: list[bytes] = field(default_factory=list)
    running: int = 0
    most: int = 0
    outcomes: list[MediaInfo | Exception] = field(default_factory=list)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, content: bytes, _: str) -> MediaInfo:
        self.begun.append(content)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.go_on.wait()
        finally:
            self.running -= 1
        outcome = self.outcomes.pop(0) if self.outcomes else PICTURE
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def album(*names: str) -> tuple[MemoryMedia, MemoryBlobs]:
    """Files whose content and hash are their name."""
    files = MemoryMedia(Tables(conversations={make.ROOM: ConversationRow(make.ROOM, None, "alice", last_seq=1)}))
    for name in names:
        files.uploads[name] = Media(
            media_id=name, owner_id="alice", file_name=name, declared_type="", size=1, sha256=name
        )
    return files, MemoryBlobs({blob(name, "original"): name.encode() for name in names})


async def finish(handle: HandleMedia, event: MessageCreated, turns: int = 100) -> Sequence[Any]:
    for _ in range(turns):
        with suppress(TurnEnded):
            return await handle([event])
    raise AssertionError("it does not get on")


async def test_a_probe_that_takes_longer_than_a_turn_goes_on_and_is_not_begun_again():
    probes, (files, blobs) = Probes(), album("a")
    handle, event = HandleMedia(files, blobs, probes, turn_s=0.01), make.created(attachments=("a",))
    for _ in range(3):
        with pytest.raises(TurnEnded):
            await handle([event])
    assert probes.begun == [b"a"]
    probes.go_on.set()
    [ready] = await finish(handle, event)
    assert (ready.media_id, ready.width) == ("a", 4)
    assert probes.begun == [b"a"]


async def test_a_message_gets_on_in_parts_however_many_attachments_it_has():
    names = [str(number) for number in range(10)]
    probes, (files, blobs) = Probes(), album(*names)
    probes.go_on.set()
    handle, event = HandleMedia(files, blobs, probes, turn_s=0.0), make.created(attachments=tuple(names))
    ready = await finish(handle, event, turns=1000)
    assert [each.media_id for each in ready] == names
    assert probes.begun == [name.encode() for name in names]
    assert await handle([event]) == ready


async def test_decoders_at_the_same_time_are_bounded_whoever_asks():
    names = [str(number) for number in range(6)]
    probes, (files, blobs) = Probes(), album(*names)
    handle = HandleMedia(files, blobs, probes, decoders=2, turn_s=0.01)
    events = [make.created(attachments=(name,)) for name in names]
    await asyncio.gather(*(handle([event]) for event in events), return_exceptions=True)
    assert probes.running == 2
    probes.go_on.set()
    for event in events:
        await finish(handle, event)
    assert probes.most == 2


async def test_an_interrupted_probe_is_tried_again_and_its_end_is_never_saved():
    probes, (files, blobs) = Probes(outcomes=[ProbeInterrupted("busy"), ProbeInterrupted("busy")]), album("a")
    probes.go_on.set()
    handle, event = HandleMedia(files, blobs, probes), make.created(attachments=("a",))
    for _ in range(2):
        with pytest.raises(TurnEnded):
            await handle([event])
        assert not files.tables.looks
    [ready] = await handle([event])
    assert (ready.media_id, ready.error) == ("a", None)


def uploaded(media_id: str, owner_id: str = "alice") -> MediaUploaded:
    return MediaUploaded(media_id=media_id, owner_id=owner_id, size=1, at=make.AT)


async def test_an_upload_is_inspected_before_any_message_names_it_and_nobody_is_told():
    probes, (files, blobs) = Probes(), album("a", "b")
    probes.go_on.set()
    handle = HandleMedia(files, blobs, probes)
    assert await handle([uploaded("a")]) == []
    found = await files.get("a")
    assert found is not None and found.attachment.width == 4
    assert (files.processed, files.tables.conversations[make.ROOM].last_seq) == ({}, 1)
    assert await handle([uploaded("a")]) == []
    [ready] = await handle([make.created(attachments=("a",))])
    assert (ready.seq, ready.name, ready.available) == (2, "a", True)
    assert probes.begun == [b"a"]


async def test_an_upload_and_a_message_that_names_it_share_a_probe():
    probes, (files, blobs) = Probes(), album("a")
    handle = HandleMedia(files, blobs, probes, turn_s=0.01)
    for event in (uploaded("a"), make.created(attachments=("a",))):
        with pytest.raises(TurnEnded):
            await handle([event])
    probes.go_on.set()
    [ready] = await finish(handle, make.created(attachments=("a",)))
    assert (ready.media_id, len(probes.begun)) == ("a", 1)


@pytest.mark.parametrize(("claims", "keep"), [((new_id, "alice"), False), ((lambda: "a", "mallory"), True)])
async def test_an_upload_that_the_store_does_not_have_so_is_refused(claims, keep):
    """An upload that is not there may have been collected; one of another owner is a lie."""
    (id_of, owner_id), (files, blobs) = claims, album("a")
    event = uploaded(id_of(), owner_id)
    assert await HandleMedia(files, blobs, Probes())([event]) == [Refused(event, "no such upload", keep=keep)]


@pytest.mark.parametrize("is_attached", [False, True])
async def test_a_probe_that_never_comes_to_a_verdict_is_set_aside_and_can_be_replayed(is_attached: bool):
    upload = new_id()
    probes, (files, blobs) = Probes(outcomes=[ProbeInterrupted("killed")] * 3), album(upload)
    probes.go_on.set()
    created = make.created(attachments=(upload,))
    files.tables.messages[created.message.message_id] = created.message
    event = created if is_attached else uploaded(upload)
    stage = create(files, blobs, probes, MemoryMessages(files.tables))
    made = record(event, producer="test")
    consumed = ConsumerRecord(made.topic, 0, 7, made.key, made.value, ())
    log = MemoryLog()
    letters: list[int] = []

    async def once() -> None:
        await process(stage, [consumed], log, RetryPolicy(), lambda _, result: letters.append(len(result.letters)))

    for _ in range(2):
        with pytest.raises(TurnEnded):
            await once()
    await once()
    assert (letters, [each.topic for each in log.records]) == ([1], [stage.dead_letters])
    assert not files.tables.looks
    await once()
    told = [MediaProcessed.TOPIC] * is_attached
    assert (letters, [each.topic for each in log.records]) == ([1, 0], [stage.dead_letters, *told])
    assert files.tables.looks.keys() == {upload}


def test_a_turn_is_the_senders_and_only_for_what_is_inspected():
    assert owner(make.created(attachments=("a",), sender_id="mallory")) == "mallory"
    assert owner(uploaded("a", "mallory")) == "mallory"
    assert owner(make.created()) is None


class Served:
    """The real worker of the stage, with a consumer that the test feeds."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        self.acknowledged: list[int] = []
        self.log = MemoryLog()
        app = SimpleNamespace(should_stop=False, rebalancing=False, consumer_generation_id=3)
        self.worker = Worker(stage, self.log, Kafka(), folder, None, app=app)
        self.offset = 0

    async def deliver(self, *events: MessageCreated) -> None:
        for event in events:
            made, offset = record(event, producer="test"), self.offset
            consumed = SimpleNamespace(
                topic=made.topic, partition=0, offset=offset, key=made.key, value=made.value, headers=()
            )
            message = SimpleNamespace(generation_id=3, records=[consumed], chunk=Chunk(offset, 1))
            delivered = SimpleNamespace(message=message, ack=partial(self.acknowledged.append, offset))
            await self.worker._enqueue(self.worker._lanes[made.topic], delivered)
            self.offset += 1

    async def until_acknowledged(self, *offsets: int) -> None:
        async with asyncio.timeout(20):
            while not set(offsets) <= set(self.acknowledged):  # noqa: ASYNC110
                await asyncio.sleep(0.001)


async def test_another_users_picture_waits_for_none_of_forty_that_do_not_end(tmp_path):
    dear, honest = [new_id() for _ in range(40)], new_id()
    files, blobs = album(*dear, honest)
    hangs = asyncio.Event()

    async def probe(content: bytes, _: str) -> MediaInfo:
        if content != honest.encode():
            await hangs.wait()
        return PICTURE

    events = [
        make.created(attachments=(name,), sender_id="mallory", seq=n + 1, message_id=new_id())
        for n, name in enumerate(dear)
    ]
    events += [
        make.created(attachments=(honest,), sender_id="bob", message_id=new_id()),
        make.created(message_id=new_id()),
    ]
    for event in events:
        files.tables.messages[event.message.message_id] = event.message
    served = Served(short_turns(create(files, blobs, probe, MemoryMessages(files.tables))), tmp_path)
    await served.deliver(*events)
    running = asyncio.create_task(served.worker._run_lanes())
    await served.until_acknowledged(40, 41)
    assert sorted(served.acknowledged) == [40, 41]
    assert not served.worker._watchdog.is_stuck(5)
    hangs.set()
    await served.until_acknowledged(*range(40))
    running.cancel()
    assert [n for n in served.acknowledged if n < 40] == list(range(40))  # a sender's pictures come in their order


def short_turns(stage: Stage) -> Stage:
    """The stage with turns of 10 ms."""
    handle = stage.handle
    assert isinstance(handle, WithStoredMessages)
    assert isinstance(handle.rule, HandleMedia)
    return replace(
        stage,
        handle=replace(handle, rule=HandleMedia(handle.rule.files, handle.rule.blobs, handle.rule.probe, turn_s=0.01)),
    )


async def test_a_turn_is_one_record_of_an_owner_and_all_that_are_nobodys_work():
    stage = create(*album(), Probes(), MemoryMessages(Tables()))
    mine = make.created(attachments=(new_id(),))

    async def turn(*events: MessageCreated) -> Turn:
        made = [record(event, producer="test") for event in events]
        consumed = [ConsumerRecord(each.topic, 0, n, each.key, each.value, ()) for n, each in enumerate(made)]
        return await turn_of(stage, consumed, RetryPolicy())

    assert await turn(mine, mine, mine) == Turn([range(1)], range(1, 3))
    assert await turn(make.created(), make.created()) == Turn([range(2)])


def test_a_record_that_cannot_be_read_is_nobodys_work():
    assert lane_key(ConsumerRecord("message.created", 0, 0, b"key", b"{", ()), owner) == b""
    assert lane_key(ConsumerRecord("message.created", 0, 0, b"key", b"{", ()), None) == b"key"
