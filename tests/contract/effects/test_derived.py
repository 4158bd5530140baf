"""Counts, search documents and files: the twins and PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from domain.analytics import MinuteCount
from domain.media import Media, MediaInfo, inspected
from domain.quotas import MIN_CHARGE, Usage
from schemas.ids import new_id


async def test_messages_are_counted_once_however_often_they_come(world):
    def ticks(*seqs: int) -> list[MinuteCount]:
        return [MinuteCount(world.room, seq, f"2026-11-24T15:0{seq // 3}:00.000Z") for seq in seqs]

    first = await world.counts.add(ticks(1, 2, 3))
    assert [(t.minute[14:16], t.messages) for t in first] == [("00", 2), ("01", 1)]
    assert await world.counts.add(ticks(1, 2, 3)) == first
    more = await world.counts.add(ticks(2, 3, 4, 4, 5))
    assert [(t.minute[14:16], t.messages) for t in more] == [("00", 2), ("01", 3)]


async def test_indexing_twice_changes_nothing(world):
    message = await world.send("a fox")
    await world.index.refresh([message.message_id])
    await world.index.refresh([message.message_id, message.message_id])


LOOK = MediaInfo(
    media_type="video/mp4",
    width=4,
    height=3,
    duration_ms=1500,
    blurhash="LEHV6nWB2yk8pyo0adR*.7kCMdnj",
    clean=b"c",
    thumbnail=b"t",
    served="clean",
)


def upload(**changes: Any) -> Media:
    fields = {"owner_id": "alice", "file_name": "a.png", "declared_type": "image/png", "size": 3}
    return Media(**{"media_id": new_id(), "sha256": new_id(), **fields, **changes})


async def test_the_files_of_a_user_are_counted_once_each(world):
    owner, small, large = f"owner-{new_id()}", upload(size=1), upload(size=2**20)
    assert await world.media.usage(owner) == Usage(0, 0)
    for media in (small, large):
        for _ in range(2):
            await world.media.add(replace(media, owner_id=owner))
    total = MIN_CHARGE + 2**20
    assert await world.media.usage(owner) == Usage(total, total)
    await world.media.add(upload(owner_id="somebody-else"))
    assert await world.media.usage(owner) == Usage(total, total)


async def test_an_upload_is_found_as_it_was_added(world):
    media = upload()
    await world.media.add(media)
    await world.media.add(media)
    assert await world.media.get(media.media_id) == media
    assert await world.media.get(new_id()) is None


async def test_what_a_content_is_is_learned_once_and_without_its_bytes(world):
    first, same = upload(), upload()
    same = replace(same, sha256=first.sha256)
    await world.media.add(first)
    await world.media.save_probe(first.sha256, LOOK)
    await world.media.save_probe(first.sha256, MediaInfo(media_type="image/gif", error="other"))
    assert await world.media.get(first.media_id) == inspected(first, LOOK)
    await world.media.add(same)
    assert await world.media.get(same.media_id) == inspected(same, LOOK)


async def test_a_content_that_no_upload_has_keeps_no_result(world):
    media = upload()
    await world.media.save_probe(media.sha256, LOOK)
    await world.media.add(media)
    assert await world.media.get(media.media_id) == media


@pytest.mark.parametrize(
    "look",
    [LOOK, MediaInfo(media_type="image/png", served="none", error="it is damaged")],
)
async def test_an_attachment_is_told_once_under_a_seq_of_its_own(world, look):
    first, second = upload(), upload()
    message = await world.send()
    for media in (first, second):
        await world.media.add(media)
    told = [await world.media.ready(message, inspected(media, look)) for media in (first, second, first, second)]
    assert told[:2] == told[2:]
    assert [(e.seq, e.media_id, e.error) for e in told[:2]] == [
        (2, first.media_id, look.error),
        (3, second.media_id, look.error),
    ]
    assert (told[0].thumbnail, told[0].available) == (look.error is None, look.error is None)
    fields = ("a.png", 3, look.width, look.duration_ms, look.blurhash)
    assert (told[0].name, told[0].size, told[0].width, told[0].duration_ms, told[0].blurhash) == fields
