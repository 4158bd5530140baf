"""Devices of a trial: receipts of both kinds, what their connections carry, and phones that come and go."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import Any

import orjson
import pytest
from millrace_client import Joined, LiveConnection
from millrace_client.sync import ConversationSync

from schemas import frames
from tests import make
from verify import behaviours
from verify.acknowledging import InsistentReceipts, LibraryReceipts
from verify.history import Room, Screen, SentReceipt
from verify.receivers import Device
from verify.sessions import SessionRecorder, Sessions
from verify.workload import DeviceKind, DeviceSpec, RoomWorkload

OTHER = "01900000-0000-7000-8000-000000000002"


def in_step(cursor: int) -> ConversationSync:
    sync = ConversationSync(make.ROOM, 0)
    connect(sync, cursor)
    return sync


def connect(sync: ConversationSync, cursor: int) -> None:
    sync.connected()
    sync.join(1)
    sync.cursor = cursor
    sync.joined(cursor, 1)


def said(receipts: Any) -> list[tuple[str, int]]:
    return [(type(receipt).__name__, receipt.seq) for receipt in receipts]


def test_an_insistent_client_repeats_everything_on_each_connection():
    receipts, sync = InsistentReceipts(), in_step(5)
    assert said(receipts.due(sync, read=True)) == [("Read", 5)]
    assert said(receipts.due(sync, read=False)) == []
    sync.arrive(6)
    assert said(receipts.due(sync, read=False)) == [("Ack", 6)]
    connect(sync, 6)
    receipts.joined(Joined(id=make.ROOM, seq=6))
    assert said(receipts.due(sync, read=False)) == [("Read", 5), ("Ack", 6)]


def test_nothing_is_said_before_the_join():
    for receipts in (InsistentReceipts(), LibraryReceipts()):
        assert said(receipts.due(ConversationSync(make.ROOM, 3), read=True)) == []


def test_what_was_read_survives_a_restart():
    receipts = LibraryReceipts()
    assert said(receipts.due(in_step(5), read=True)) == [("Read", 5)]
    assert ("Read", 5) in said(receipts.due(in_step(7), read=False))


# what connections carry


def recorder(*removed_from: str) -> tuple[LiveConnection, SessionRecorder]:
    made = SessionRecorder("bob", "desk", Sessions(), "", removed_from)
    return LiveConnection((), "token", listener=made), made


async def hear(live: LiveConnection, **fields: Any) -> None:
    live.receive(orjson.dumps(fields))


async def connected(live: LiveConnection) -> None:
    await hear(
        live,
        type="connected",
        connectionId="c",
        userId="bob",
        heartbeatMs=1,
        maxFrame=1,
        expiresAt="2036-01-01T00:00:00.000Z",
    )


async def tell_status(live: LiveConnection, delivered: int) -> None:
    await hear(
        live,
        type="message_status",
        conversationId=OTHER,
        seq=delivered,
        userId="carol",
        status="delivered",
        deliveredSeq=delivered,
        readSeq=0,
        at=make.AT,
    )


async def tell_message(live: LiveConnection, seq: int) -> None:
    message = make.message(conversation_id=OTHER, seq=seq)
    live.receive(frames.new_message(message))


async def test_frames_are_recorded_by_connection():
    live, made = recorder()
    await tell_status(live, 1)  # before any connection: there is none to record it
    await connected(live)
    await tell_status(live, 2)
    await tell_status(live, 3)
    await hear(live, type="notification", notificationId="n", conversationId=OTHER, messageId="m", seq=3, at=make.AT)
    await tell_message(live, 4)
    await tell_message(live, 3)
    made.on_disconnected("cut")
    await tell_status(live, 4)
    await connected(live)
    first, second = made.sessions.all
    assert [frame.delivered_seq for frame in first.statuses] == [2, 3]
    assert [frame.notification_id for _, frame in first.notifications] == ["n"]
    assert first.hints == {OTHER: 4}
    assert first.began <= first.ended < float("inf") == second.ended
    assert (second.statuses, second.hints, first.heard) == ([], {}, {})


async def test_equal_frames_are_kept_once():
    one, first = recorder()
    two, second = recorder()
    second.sessions = first.sessions
    for live in (one, two):
        await connected(live)
        await tell_status(live, 2)
    [a], [b] = (session.statuses for session in first.sessions.all)
    assert a is b


async def test_who_is_removed_is_listened_to_closely():
    live, made = recorder(OTHER)
    await connected(live)
    await tell_message(live, 4)
    await tell_status(live, 4)
    await hear(live, type="typing", conversationId=make.ROOM, userId="carol", isTyping=True)
    [session] = made.sessions.all
    assert {room: [seq for _, seq in heard] for room, heard in session.heard.items()} == {OTHER: [4, 0]}


# phones


class Socketless(LiveConnection):
    """A connection that never opens."""

    async def run(self) -> None:
        await self._stopped.wait()


@pytest.fixture
def phone(monkeypatch) -> Device:
    monkeypatch.setattr("verify.receivers.LiveConnection", Socketless)
    spec = DeviceSpec(user="phil", device="phone", kind=DeviceKind.PHONE)
    return Device(Room(RoomWorkload(), make.ROOM), Screen(spec), (), "token", chance=random.Random(1))


async def test_a_phone_comes_and_goes_and_its_stays_are_known(phone, monkeypatch):
    monkeypatch.setattr(behaviours, "_HERE_S", (0.0, 0.001))
    monkeypatch.setattr(behaviours, "_AWAY_S", (0.0, 0.001))
    phone.start()
    async with asyncio.timeout(5):
        while len(phone.screen.stays) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    await phone.rest()
    await phone.close()
    first, second, *_ = phone.screen.stays
    assert first.began <= first.ended <= second.began <= second.ended
    for task in phone.clients:
        with suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("stays", [True, False])
async def test_at_rest_a_phone_is_there_or_away_for_good(phone, monkeypatch, stays):
    phone.chance = random.Random(1)
    monkeypatch.setattr(phone.chance, "random", lambda: 0.0 if stays else 0.9)
    for begins_away in (True, False):
        phone._connect(0)
        if begins_away:
            await phone.go_away()
        await phone.rest()
        assert phone.is_away != stays
        assert phone.screen.has_left != stays
        assert (phone.screen.stays[-1].ended == float("inf")) == stays
        phone.is_away = False
        await phone.close()


async def test_the_last_words_of_a_phone_that_is_gone_count_when_it_could_repeat_them():
    screen = Screen(DeviceSpec(user="phil", device="phone", kind=DeviceKind.PHONE))
    assert screen.told is None
    screen.receipts += [SentReceipt(1.0, 3, 2), SentReceipt(5.0, 7, 0)]
    assert screen.told == SentReceipt(5.0, 7, 2)
    screen.has_left, screen.joined_at = True, 4.0
    assert screen.told == SentReceipt(1.0, 3, 2)
