"""Effects that only the store has: languages of the index, and media under a seq of their own."""

from __future__ import annotations

import pytest

from adapters.postgres.conversations import PostgresConversations
from adapters.postgres.history import PostgresHistory
from adapters.postgres.intake import PostgresIntake
from adapters.postgres.media import PostgresMedia
from adapters.postgres.pool import Pool
from adapters.postgres.search import PostgresSearch
from domain.media import Media, MediaInfo, inspected
from domain.search import Query
from schemas.ids import new_id
from schemas.messages import ChangeKind
from tests import make


@pytest.fixture
async def store(pool: Pool) -> tuple[Pool, str]:
    room = new_id()
    await PostgresConversations(pool).create(room, None, "alice", ["bob"])
    return pool, room


async def put(pool: Pool, room: str, *contents: str) -> None:
    outcomes = await PostgresIntake(pool).accept([make.draft(text, conversationId=room) for text in contents])
    await PostgresSearch(pool).put([o.message for o in outcomes])


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("windmill", "The Windmill turns"),
        ("wind", "The Windmill turns"),
        ("zoe", "Zoë was here"),
        ("windmil turn", "The Windmill turns"),
        ("天気", "今日はいい天気です"),
        ("100%", "it is 100% sure"),
    ],
)
async def test_search_finds_words_prefixes_accents_and_scripts_without_spaces(store, asked, found):
    pool, room = store
    await put(pool, room, "The Windmill turns", "Zoë was here", "今日はいい天気です", "it is 100% sure", "nothing")
    hits = await PostgresSearch(pool).search("bob", Query(text=asked, conversation_id=room), limit=10, offset=0)
    assert hits[0].message.content == found


async def test_search_shows_members_only_and_escapes_what_it_highlights(store):
    pool, room = store
    await put(pool, room, "<script>alert(1)</script> windmill")
    query = Query(text="windmill", conversation_id=room)
    [hit] = await PostgresSearch(pool).search("bob", query, limit=10, offset=0)
    assert hit.highlight == "&lt;script&gt;alert(1)&lt;/script&gt; <mark>windmill</mark>"
    assert await PostgresSearch(pool).search("eve", query, limit=10, offset=0) == []


@pytest.mark.parametrize("asked", ["'", "a & | !", "\\", "%", "foo:*", "<->", "\u202e", "'); DROP TABLE messages; --"])
async def test_search_takes_any_text(store, asked):
    pool, _ = store
    await PostgresSearch(pool).search("bob", Query(text=asked), limit=10, offset=0)


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
