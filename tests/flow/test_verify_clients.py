"""Readers and uploaders of a run against the API on twins: they are refused nothing, and see what is wrong."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapters.auth import issue
from domain.analytics import MinuteCount
from tests import make
from tests.flow.api import SECRET, Api, open_api
from verify import readers, uploaders
from verify.checker import READ, state_of_answers
from verify.final_state import Watermark
from verify.history import History, Room, Sending
from verify.http_answers import Caller
from verify.readers import Reader
from verify.reading import ReadingUser
from verify.rules.files import members_get_files, uploads_are_kept
from verify.senders import Senders
from verify.uploaders import Uploader
from verify.workload import RoomWorkload, Send, SendMode

RUN = "v12345678"
DOORS = ["http://api"]
COUNT = 7


@dataclass
class Talk:
    """A conversation on the API, and the clients of a run in it."""

    api: Api
    history: History
    room: Room

    @property
    def caller(self) -> Caller:
        return Caller(self.api.http, DOORS, self.token, self.history.calls)

    @property
    def senders(self) -> Senders:
        return Senders(self.api.http, DOORS, self.token)

    @property
    def reader(self) -> Reader:
        return Reader(ReadingUser("bob", self.room, self.caller, self.history.reads, []), random.Random(1), RUN)

    @staticmethod
    def token(user: str) -> str:
        return issue(SECRET, user, ttl_s=60)

    async def say(self, number: int, mode: SendMode = SendMode.PLAIN) -> Sending:
        send = Send(at=0, sender="alice", key=f"k{number}", content=f"{RUN} {number} mill", mode=mode)
        sending = Sending(send)
        self.room.sendings.append(sending)
        await self.senders.send(make.ROOM, sending)
        return sending

    async def follow(self) -> None:
        """Do what the stages would do."""
        for sending in self.room.sendings:
            assert sending.accepted is not None
            await self.api.index.refresh([sending.accepted.message_id])
            await self.api.counts.add([MinuteCount(make.ROOM, sending.accepted.seq, "2026-01-01T00:00:00Z")])

    def verdict(self) -> list[str]:
        state = state_of_answers(self.room, max(page.head for page in self.history.reads.pages))
        state.watermarks = [Watermark("bob", state.head, state.head)]
        return [violation.text for rule in READ for violation in rule(self.history, [state])]


@pytest.fixture
async def talk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Talk]:
    monkeypatch.setattr(readers, "_END_S", 0.0)
    monkeypatch.setattr(uploaders, "_END_S", 0.0)
    workload = RoomWorkload(owner="alice", members=("alice", "bob", "carol"), leaver="carol", stranger="mallory")
    async with open_api(tmp_path) as api:
        history, room = History(RUN, 1), Room(workload, make.ROOM)
        history.rooms.append(room)
        yield Talk(api, history, room)


async def test_a_reader_reads_all_there_is_and_nothing_is_wrong(talk: Talk):
    reader = talk.reader
    for number in range(COUNT):
        await talk.say(number)
        await reader._newest()
        await reader._older()
        await reader._newer()
        await reader._around_the_head()
        await reader._read_up_to()
        await reader._notifications()
        await reader.reading.intrude()
    await talk.follow()
    await reader._search()
    await reader.conclude()
    reads = talk.history.reads
    assert talk.verdict() == []
    assert (len(reads.searches), len(talk.room.receipts), len(reads.strangers)) == (2, COUNT, 0)
    assert len(reads.whole_searches[-1].hits) == reads.counts[-1].messages == COUNT
    assert all(call.expected for call in talk.history.calls)


async def test_a_message_that_is_neither_indexed_nor_counted_is_missed(talk: Talk):
    for number in range(COUNT):
        await talk.say(number)
    await talk.follow()
    await talk.say(COUNT)
    await talk.reader.conclude()
    lost = talk.room.sendings[-1].accepted
    assert lost is not None
    found = " / ".join(talk.verdict())
    assert f"does not find {lost.message_id}" in found
    assert f"{COUNT} messages are counted, {COUNT + 1} are stored" in found


async def test_an_upload_survives_hang_ups_and_is_attached(talk: Talk):
    files, over = talk.history.files, asyncio.Event()
    uploader = Uploader("alice", talk.room, RUN, "uploader-0", talk.caller, talk.senders, files, HangsUp(over), over)
    await uploader.go_on()
    [upload] = files.uploads
    [sending] = talk.room.sendings
    assert upload.is_complete
    assert sending.accepted is not None
    assert list(uploads_are_kept(talk.history, [])) == []
    await uploader.conclude()
    missing = list(members_get_files(talk.history, []))  # nobody has inspected it
    assert {violation.sort for violation in missing} == {"lost"}
    assert {download.call.code for download in files.downloads if download.call.user == "bob"} == {"media_not_ready"}


class HangsUp(random.Random):
    """A client that never waits for the answer to a piece, and uploads one file."""

    def __init__(self, over: asyncio.Event) -> None:
        super().__init__(1)
        self.over = over

    def random(self) -> float:
        return 0.0

    def randbytes(self, n: int) -> bytes:
        return bytes(n)

    def randint(self, a: int, b: int) -> int:
        return a

    def uniform(self, a: float, b: float) -> float:
        self.over.set()
        return a
