"""Uploads: the twin and PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest

from domain.errors import Invalid
from domain.media import Media, MediaInfo
from schemas.ids import new_id
from tests import make


def upload(**changes: Any) -> Media:
    fields = {"owner_id": "alice", "file_name": "a.png", "declared_type": "image/png", "size": 3}
    return Media(**{"media_id": new_id(), "sha256": new_id(), **fields, **changes})


async def test_an_upload_is_read_by_its_owner_and_once_it_is_placed_by_members(world):
    media = upload()
    await world.media.add(media)
    message = await world.send("look", attachments=[media.media_id])
    assert message.attachments == (media.media_id,)

    async def readers() -> list[str]:
        return [user for user in ("alice", "bob", "eve") if await world.media.may_read(media.media_id, user)]

    assert await readers() == ["alice"]
    look = MediaInfo(media_type="image/png", width=4, height=3, clean=b"c", thumbnail=b"t")
    await world.media.save_probe(media.sha256, look)
    await world.media.ready(message, media, look)
    assert await readers() == ["alice", "bob"]
    assert not await world.media.may_read(new_id(), "alice")


@pytest.mark.parametrize(
    "look",
    [
        MediaInfo(media_type="image/png", width=4, height=3, clean=b"c", thumbnail=b"t"),
        MediaInfo(media_type="application/pdf", error="it is no picture"),
    ],
)
async def test_an_upload_that_was_probed_has_its_true_type_and_its_files(world, look):
    media = upload()
    await world.media.add(media)
    message = await world.send("look", attachments=[media.media_id])
    await world.media.save_probe(media.sha256, look)
    await world.media.ready(message, media, look)
    found = await world.media.get(media.media_id)
    assert found is not None
    assert (found.media_type, found.clean, found.thumbnail, found.conversation_id) == (
        look.media_type,
        look.clean is not None,
        look.thumbnail is not None,
        world.room,
    )


async def test_only_the_owner_attaches_an_upload(world):
    media = upload(owner_id="carol")
    await world.media.add(media)
    [outcome] = await world.intake.accept([make.draft("mine", conversationId=world.room, attachments=[media.media_id])])
    assert isinstance(outcome, Invalid)
    assert str(outcome) == "attachments must be uploads of the sender"
