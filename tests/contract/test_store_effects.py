"""Effects that only the store has: media under a seq of their own."""

from __future__ import annotations

import pytest

from adapters.postgres.conversations import PostgresConversations
from adapters.postgres.history import PostgresHistory
from adapters.postgres.intake import PostgresIntake
from adapters.postgres.media import PostgresMedia
from adapters.postgres.pool import Pool
from domain.media import Media, MediaInfo, inspected
from schemas.ids import new_id
from schemas.messages import ChangeKind
from tests import make


@pytest.fixture
async def store(pool: Pool) -> tuple[Pool, str]:
    room = new_id()
    await PostgresConversations(pool).create(room, None, "alice", ["bob"])
    return pool, room


async def test_media_that_is_ready_is_told_once_under_its_own_seq(store):
    pool, room = store
    files = PostgresMedia(pool)
    media = Media(
        media_id=new_id(), owner_id="alice", file_name="a.png", declared_type="image/png", size=3, sha256=new_id()
    )
    await files.add(media)
    await files.add(media)
    draft = make.draft("look", conversationId=room, attachments=[media.media_id])
    [outcome] = await PostgresIntake(pool).accept([draft])
    assert [file.media_id for file in outcome.message.attachments] == [media.media_id]
    look = MediaInfo(media_type="image/png", width=4, height=3, clean=b"c", thumbnail=b"t")
    await files.save_probe(media.sha256, look)
    found = await files.get(media.media_id)
    assert found == inspected(media, look)
    first = await files.ready(outcome.message, found)
    assert await files.ready(outcome.message, found) == first
    assert (first.seq, first.thumbnail, first.width) == (2, True, 4)
    changes = await PostgresHistory(pool).changes(room, 0, 99, 99)
    assert [c.kind for c in changes] == [ChangeKind.MESSAGE, ChangeKind.MEDIA_READY]
    assert changes[1].data["mediaId"] == media.media_id
