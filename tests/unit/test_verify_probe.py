"""The probe: what it notes of its messages, whatever comes first, and how far back it has to look."""

from __future__ import annotations

import asyncio

import orjson
import pytest
from millrace_client.frames import StatusUpdated
from rich.console import Console

from tests import make
from verify.edges import Edge, Measurement
from verify.history import History
from verify.probe import _PICTURES, _TEXTS
from verify.probe.doors import Doors
from verify.probe.pictures import PictureRoom
from verify.probe.readers import depth
from verify.probe.room import ProbeRoom
from verify.probe.texts import EDGES, SenderScreen, TextRoom
from verify.probe.track import Track, Watermark
from verify.progress import ProgressView

DOORS = Doors([], str)


def test_a_key_may_arrive_before_or_after_its_sender_knows_it():
    track = Track[int]([])
    first, second = track.begin(1.0), track.begin(2.0)
    track.reach(7, 3.0)
    track.expect(7, first)
    track.expect(8, second)
    assert (first.ended, second.ended) == (3.0, None)
    track.reach(8, 4.0)
    track.reach(8, 9.0)
    assert second.ended == 4.0
    assert track.measurements == [first, second]


def test_a_watermark_reaches_all_seqs_up_to_it_and_never_falls():
    track = Watermark([])
    measurements = [track.begin(0.0) for _ in range(3)]
    for seq, measurement in enumerate(measurements, 1):
        track.expect(seq, measurement)
    for seq, at in ((2, 1.0), (1, 2.0), (3, 3.0)):
        track.reach_all(seq, at)
    assert [each.ended for each in measurements] == [1.0, 1.0, 3.0]


def test_a_reader_looks_back_to_the_oldest_message_that_is_under_way():
    arrived, under_way = Measurement(0.0, 1.0), Measurement(0.0)
    seen = ([], [arrived], [arrived, under_way], [arrived, under_way, arrived, arrived])
    assert [depth(each, 5.0) for each in seen] == [0, 0, 1, 3]


def test_a_reader_looks_everywhere_for_a_message_that_does_not_come():
    arrived, under_way = Measurement(0.0, 1.0), Measurement(0.0)
    assert depth([arrived, arrived, under_way, arrived], 60.0) == 4
    assert depth([arrived, arrived], 60.0) == 0


def room() -> TextRoom:
    told = Watermark([])
    tracks: dict[Edge, Track[int]] = {edge: Track([]) for edge in EDGES}
    return TextRoom(
        run="v",
        number=0,
        conversation_id=make.ROOM,
        receiver="bob",
        sender="alice",
        tracks={**tracks, Edge.STATUS: told, Edge.COUNTED: Watermark([])},
        told=told,
    )


async def test_a_text_is_measured_on_every_edge_from_its_first_attempt_on(monkeypatch):
    mine = room()
    answer = asyncio.Event()

    async def post(*_: object) -> tuple[int, float]:
        await answer.wait()
        return 1, 5.0

    monkeypatch.setattr(ProbeRoom, "post", post)
    sending = asyncio.create_task(mine.send(DOORS, 0))
    await asyncio.sleep(0)
    assert [len(track.measurements) for track in mine.tracks.values()] == [1] * len(EDGES)
    mine.on_content(1, b"{}")
    answer.set()
    await sending
    ended = {edge for edge, track in mine.tracks.items() if track.measurements[0].ended is not None}
    assert ended == {Edge.ACCEPTED, Edge.DELIVERED}
    await mine.send(DOORS, 1)
    assert [len(mine.tracks[edge].measurements) for edge in (Edge.DELIVERED, Edge.SEARCHED, Edge.COUNTED)] == [2, 1, 1]


@pytest.mark.parametrize(
    ("conversation_id", "user", "is_reached"),
    [(make.ROOM, "bob", True), (make.ROOM, "alice", False), ("another", "bob", False)],
)
def test_the_status_is_that_of_the_receiver_in_this_conversation(conversation_id, user, is_reached):
    mine = room()
    frame = StatusUpdated(
        conversation_id=conversation_id,
        seq=2,
        user_id=user,
        status="delivered",
        delivered_seq=2,
        read_seq=0,
        at=make.AT,
    )
    SenderScreen(mine).on_frame(frame, b"")
    assert (mine.told.reached.keys() == {1, 2}) == is_reached


def test_a_picture_is_measured_until_it_is_inspected():
    track = Track[str]([])
    mine = PictureRoom(run="v", number=4, conversation_id=make.ROOM, receiver="bob", senders=["alice"], track=track)
    for kind in ("new_message", "media_ready"):
        assert track.reached == {}
        mine.on_content(1, orjson.dumps({"type": kind, "mediaId": "m"}))
    assert track.reached.keys() == {"m"}


async def test_a_message_is_sent_at_each_beat_though_none_is_answered_and_not_without_bound(monkeypatch):
    begun: list[int] = []

    async def never(_: ProbeRoom, __: Doors, number: int) -> None:
        begun.append(number)
        await asyncio.Event().wait()

    monkeypatch.setattr(TextRoom, "send", never)
    mine = room()
    mine.every_s, mine.most = 0.0, 3
    talking = asyncio.create_task(mine.talk(DOORS))
    async with asyncio.timeout(5):
        while len(begun) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)
    talking.cancel()
    await mine.close()
    assert begun == [1, 2, 3]


@pytest.mark.parametrize("is_told", [False, True])
async def test_a_status_that_may_be_lost_is_healed_by_a_message_that_is_not_measured(monkeypatch, is_told):
    posted: list[object] = []

    async def post(*parts: object) -> tuple[int, float]:
        posted.append(parts)
        return 2, 6.0

    monkeypatch.setattr(ProbeRoom, "post", post)
    mine = room()
    mine.told.expect(1, mine.told.begin(1.0))
    if is_told:
        mine.told.reach_all(1, 2.0)
    await mine.remind(DOORS)
    assert len(posted) == (not is_told)
    assert len(mine.told.measurements) == 1


async def test_an_error_of_the_probe_itself_is_not_swallowed(monkeypatch):
    async def fail(*_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(TextRoom, "send", fail)
    mine = room()
    mine.every_s = 0.0
    talking = asyncio.create_task(mine.talk(DOORS))
    async with asyncio.timeout(5):
        while not mine.tasks:  # noqa: ASYNC110
            await asyncio.sleep(0)
    talking.cancel()
    assert isinstance(mine.tasks[0].exception(), KeyError)


@pytest.mark.parametrize("partitions", [_TEXTS, _PICTURES])
def test_each_of_two_workers_reads_a_conversation_of_the_probe(partitions):
    in_turn = {partition % 2 for partition in partitions}
    in_ranges = {partition // 6 for partition in partitions}
    assert in_turn == in_ranges == {0, 1}


def test_each_of_three_gateways_reads_a_conversation_of_the_probe():
    assert {partition % 3 for partition in _TEXTS} == {partition // 4 for partition in _TEXTS} == {0, 1, 2}


def test_lateness_is_shown_while_it_lasts():
    history = History("v", 1)
    view = ProgressView(history, 100, console=Console(width=100, record=True, quiet=True))
    now = view.began
    history.measurements[Edge.SEARCHED] += [Measurement(now - 30), Measurement(now - 1, now - 0.5)]
    history.measurements[Edge.ACCEPTED] += [Measurement(now - 1, now - 0.9), Measurement(now - 0.2)]
    console = Console(width=100, record=True, force_terminal=False)
    with console.capture() as shown:
        console.print(view._drawn())
    lines = {line.split()[0]: line for line in shown.get().splitlines() if line.strip()}
    assert "late for 30 s" in lines["searched"]
    assert "0.50 s" in lines["searched"]
    assert "late" not in lines["accepted"]
