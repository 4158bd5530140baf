"""Uploads: the twin and PostgreSQL."""

from __future__ import annotations

from typing import Any

from domain.errors import Invalid
from domain.media import Media, MediaInfo
from schemas.codec import decode
from schemas.ids import new_id
from schemas.messages import Attachment
from tests import make

LOOK = MediaInfo(
    media_type="video/mp4",
    width=4,
    height=3,
    duration_ms=1500,
    blurhash="L~",
    clean=b"c",
    thumbnail=b"t",
    served="clean",
)


def upload(**changes: Any) -> Media:
    fields = {"owner_id": "alice", "file_name": "a.png", "declared_type": "image/png", "size": 3}
    return Media(**{"media_id": new_id(), "sha256": new_id(), **fields, **changes})


async def test_an_upload_is_read_by_its_owner_and_once_it_is_placed_by_members(world):
    media = upload()
    await world.media.add(media)

    async def readers() -> list[str]:
        return [user for user in ("alice", "bob", "eve") if await world.media.may_read(media.media_id, user)]

    assert await readers() == ["alice"]
    await world.send("look", attachments=[media.media_id, media.media_id])
    assert await readers() == ["alice", "bob"]
    assert not await world.media.may_read(new_id(), "alice")


async def test_a_message_carries_what_is_known_of_its_files_when_it_is_accepted(world):
    early, late = upload(), upload(file_name="b", declared_type="")
    for media in (early, late):
        await world.media.add(media)
    await world.media.save_probe(early.sha256, LOOK)
    sent = await world.send("look", attachments=[late.media_id, early.media_id])
    assert sent.attachments == (
        Attachment(media_id=late.media_id, name="b", type="application/octet-stream", size=3),
        Attachment(
            media_id=early.media_id,
            name="a.png",
            type="video/mp4",
            size=3,
            width=4,
            height=3,
            duration_ms=1500,
            blurhash="L~",
            thumbnail=True,
        ),
    )
    await world.media.save_probe(late.sha256, LOOK)
    assert await world.messages.one(sent.message_id, "bob") == sent


async def test_a_repeat_gets_the_message_as_it_was_accepted(world):
    media = upload()
    await world.media.add(media)
    first = await world.send("look", attachments=[media.media_id], key="again")
    await world.media.save_probe(media.sha256, LOOK)
    assert await world.send("look", attachments=[media.media_id], key="again") == first


async def test_an_upload_is_owed_to_the_stage_once_under_its_own_id(world):
    media = upload()
    for _ in range(2):
        await world.media.add(media)
    [row] = await world.owed(media.media_id)
    event = decode(row.topic, media.media_id.encode(), row.value)
    assert (row.topic, event.media_id, event.owner_id) == ("media.uploaded", media.media_id, "alice")
    assert b"a.png" not in row.value


async def test_only_the_owner_attaches_an_upload(world):
    media = upload(owner_id="carol")
    await world.media.add(media)
    [outcome] = await world.intake.accept([make.draft("mine", conversationId=world.room, attachments=[media.media_id])])
    assert isinstance(outcome, Invalid)
    assert str(outcome) == "attachments must be uploads of the sender"
