"""The migration to messages that carry what is known of their files: back, and forth again, with what was stored."""

from __future__ import annotations

from pathlib import Path

from adapters.postgres import migrate
from adapters.postgres.conversations import PostgresConversations
from adapters.postgres.history import PostgresHistory
from adapters.postgres.intake import PostgresIntake
from adapters.postgres.media import PostgresMedia
from adapters.postgres.messages import PostgresMessages
from adapters.postgres.pool import Pool
from domain.media import Media, MediaInfo
from schemas import frames
from schemas.ids import new_id
from tests import make

FOLDER = Path(migrate.__file__).parent / "migrations"
CLEAN = MediaInfo(media_type="image/png", width=4, height=3, clean=b"c", thumbnail=b"t", served="clean")
DAMAGED = MediaInfo(media_type="image/png", served="none", error="it is damaged")
TEXT = MediaInfo(media_type="text/plain", served="original")


async def run(pool: Pool, name: str) -> None:
    async with pool.connection() as conn, conn.transaction():
        await conn.execute((FOLDER / name).read_text().encode(), prepare=False)


def upload(name: str, declared: str = "") -> Media:
    return Media(media_id=new_id(), owner_id="alice", file_name=name, declared_type=declared, size=3, sha256=new_id())


async def test_what_was_sent_before_carries_what_is_known_of_its_files_too(pool: Pool):
    room, files, history = new_id(), PostgresMedia(pool), PostgresHistory(pool)
    await PostgresConversations(pool).create(room, None, "alice", ["bob"])
    looks = {upload("a.png"): CLEAN, upload("b.png"): DAMAGED, upload("c.txt"): TEXT, upload("d", "x/y"): None}
    for media, look in looks.items():
        await files.add(media)
        if look is not None:
            await files.save_probe(media.sha256, look)
    ids = [media.media_id for media in looks]
    drafts = [make.draft("look", conversationId=room, attachments=ids[::-1]), make.draft("hi", conversationId=room)]
    sent = [outcome.message for outcome in await PostgresIntake(pool).accept(drafts)]
    for media, look in looks.items():
        if look is not None and (found := await files.get(media.media_id)) is not None:
            await files.ready(sent[0], found)
    changes = await history.changes(room, 0, 99, 99)
    lone = upload("lone")
    await files.add(lone)

    await run(pool, "0012.media.rollback.sql")
    async with pool.connection() as conn:
        stored = await conn.execute("SELECT attachments FROM messages WHERE conversation_id = %s ORDER BY seq", (room,))
        assert await stored.fetchall() == [(ids[::-1],), ([],)]
        fields = "name,size,durationMs,blurhash,available"  # earlier releases knew none of these
        for table, column in (("changes", "data"), ("media_places", "event")):
            query = f"UPDATE {table} SET {column} = {column} - string_to_array(%s, ',') WHERE conversation_id = %s"
            await conn.execute(query.encode(), (fields, room))

    await run(pool, "0012.media.sql")
    assert list(await PostgresMessages(pool).page(room, None, None, 10)) == sent
    after = await history.changes(room, 0, 99, 99)
    assert [frames.of_change(change) for change in after] == [frames.of_change(change) for change in changes]
    assert [(await files.get(media.media_id)).served for media in looks] == ["clean", "none", "original", None]  # type: ignore[union-attr]
    for media in looks:
        assert await files.may_read(media.media_id, "bob")
        assert not await files.may_read(media.media_id, "eve")
    async with pool.connection() as conn:
        kept = await conn.execute("SELECT media_id::text FROM media WHERE kept")
        assert {row[0] for row in await kept.fetchall()} == set(ids)
