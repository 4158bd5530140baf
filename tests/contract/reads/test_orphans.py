"""Uploads that no message names, and their files: the twin and PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from adapters.memory.blobs import MemoryBlobs
from adapters.postgres.conversations import PostgresConversations
from adapters.postgres.intake import PostgresIntake
from adapters.postgres.media import PostgresMedia
from adapters.postgres.pool import Pool
from domain.errors import Invalid, Unavailable
from domain.media import PARTS, Media, MediaInfo, blob, inspected
from domain.quotas import MIN_CHARGE, Usage
from ingest.orphans import collect_orphans
from schemas.ids import new_id
from tests import make

DAY = 86_400.0
LOOK = MediaInfo(media_type="image/png", width=4, height=3, clean=b"c", thumbnail=b"t", served="clean")


class Files(MemoryBlobs):
    """Files, of which some cannot be deleted now."""

    stuck: Sequence[str] = ()

    async def delete(self, name: str) -> None:
        if name in self.stuck:
            raise Unavailable("the file store does not answer; try again")
        await MemoryBlobs.delete(self, name)


async def uploaded(world: Any, files: Files, **changes: Any) -> Media:
    """Store an upload of the day before yesterday, with its files."""
    fields = {"owner_id": "alice", "file_name": "a.png", "declared_type": "image/png", "size": 3}
    media = Media(**{"media_id": new_id(), "sha256": new_id(), **fields, **changes})

    async def keep() -> None:
        for part in PARTS:
            await files.put(blob(media.sha256, part), b"x")

    await world.media.add(media, keep)
    await world.make_older(media.media_id, 2 * DAY)
    return media


def parts_of(files: Files, media: Media) -> set[str]:
    return {part for part in PARTS if blob(media.sha256, part) in files.files}


async def test_an_upload_that_no_message_names_is_deleted_with_its_files_and_its_charge(world):
    files, owner = Files(), f"owner-{new_id()}"
    media = await uploaded(world, files, owner_id=owner)
    await world.media.save_probe(media.sha256, LOOK)
    assert (await world.media.usage(owner)).stored == MIN_CHARGE
    await collect_orphans(world.media, files)
    assert await world.media.get(media.media_id) is None
    assert not await world.media.may_read(media.media_id, owner)
    assert await world.media.usage(owner) == Usage(0, MIN_CHARGE)
    assert parts_of(files, media) == set()
    [outcome] = await world.intake.accept(
        [make.draft("late", sender="alice", conversationId=world.room, attachments=[media.media_id])]
    )
    assert isinstance(outcome, Invalid)
    # The same bytes are inspected anew.
    again = await uploaded(world, files, sha256=media.sha256)
    assert await world.media.get(again.media_id) == again
    assert parts_of(files, again) == set(PARTS)


async def test_an_upload_that_is_attached_or_young_stays(world):
    files = Files()
    attached, young = await uploaded(world, files), await uploaded(world, files)
    await world.make_older(young.media_id, -1.5 * DAY)
    await world.send("look", attachments=[attached.media_id])
    for _ in range(2):
        await collect_orphans(world.media, files)
    for media in (attached, young):
        assert await world.media.get(media.media_id) == media
        assert parts_of(files, media) == set(PARTS)
    await world.make_older(young.media_id, DAY)
    await collect_orphans(world.media, files)
    assert await world.media.get(young.media_id) is None
    assert await world.media.get(attached.media_id) == attached


async def test_files_that_another_upload_has_stay(world):
    files = Files()
    first = await uploaded(world, files)
    second = await uploaded(world, files, sha256=first.sha256, owner_id="bob")
    await world.media.save_probe(first.sha256, LOOK)
    await world.send("look", sender="bob", attachments=[second.media_id])
    await collect_orphans(world.media, files)
    assert await world.media.get(first.media_id) is None
    assert await world.media.get(second.media_id) == inspected(second, LOOK)
    assert parts_of(files, second) == set(PARTS)


async def test_files_that_cannot_be_deleted_are_deleted_later_and_hold_up_no_others(world):
    files = Files()
    first, second = await uploaded(world, files), await uploaded(world, files)
    files.stuck = [blob(first.sha256, PARTS[1])]
    await collect_orphans(world.media, files)
    assert (len(parts_of(files, first)), parts_of(files, second)) == (2, set())
    files.stuck = ()
    await collect_orphans(world.media, files)
    assert parts_of(files, first) == set()


async def test_files_are_not_deleted_while_an_upload_of_the_same_bytes_is_being_stored(pool: Pool):
    media, files = PostgresMedia(pool), Files()
    gone = Media(media_id=new_id(), owner_id="a", file_name="a", declared_type="", size=1, sha256=new_id())
    await media.add(gone)
    async with pool.connection() as conn:
        await conn.execute("UPDATE media SET created_at = '2020-01-01' WHERE media_id = %s", (gone.media_id,))
    assert gone.sha256 in await media.collect(DAY, 1_000)
    began, finish, name = asyncio.Event(), asyncio.Event(), blob(gone.sha256, PARTS[0])

    async def keep() -> None:
        await files.put(name, b"x")
        began.set()
        await finish.wait()

    adding = asyncio.create_task(media.add(replace(gone, media_id=new_id()), keep))
    await began.wait()
    await collect_orphans(media, files)
    assert name in files.files
    finish.set()
    await adding
    await collect_orphans(media, files)
    assert name in files.files
    assert gone.sha256 not in await media.collect(DAY, 1_000)


async def test_files_are_stored_once_those_of_the_same_bytes_are_deleted(pool: Pool):
    media, files = PostgresMedia(pool), Files()
    upload = Media(media_id=new_id(), owner_id="a", file_name="a", declared_type="", size=1, sha256=new_id())
    began, finish, name = asyncio.Event(), asyncio.Event(), blob(upload.sha256, PARTS[0])

    async def delete() -> None:
        began.set()
        await finish.wait()
        await files.delete(name)

    async def keep() -> None:
        await files.put(name, b"x")

    discarding = asyncio.create_task(media.discard(upload.sha256, delete))
    await began.wait()
    adding = asyncio.create_task(media.add(upload, keep))
    while not await waits_for_lock(pool):
        assert not adding.done()
    finish.set()
    await asyncio.gather(discarding, adding)
    assert name in files.files


async def waits_for_lock(pool: Pool) -> bool:
    async with pool.connection() as conn:
        found = await conn.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        return await found.fetchone() is not None


@pytest.mark.parametrize("commits", [True, False])
async def test_an_upload_is_not_collected_while_a_message_takes_it_up(pool: Pool, commits: bool):
    """The message's transaction has read the upload, and is not committed yet."""
    media, room = PostgresMedia(pool), new_id()
    await PostgresConversations(pool).create(room, None, "alice", ["bob"])
    upload = Media(media_id=new_id(), owner_id="alice", file_name="a", declared_type="", size=1, sha256=new_id())
    await media.add(upload)
    async with pool.connection() as conn:
        await conn.execute("UPDATE media SET created_at = '2020-01-01' WHERE media_id = %s", (upload.media_id,))
    draft = make.draft("look", conversationId=room, attachments=[upload.media_id])
    async with pool.connection() as holder, pool.connection() as taker:
        # Whoever holds the log's tail lets the message wait behind its reads: here, the row of its first change.
        async with holder.transaction():
            await holder.execute("LOCK TABLE changes IN SHARE MODE")
            sending = asyncio.create_task(PostgresIntake(pool).accept([draft]))
            while not await waits_for_table(taker):
                assert not sending.done()
            assert upload.sha256 not in await media.collect(DAY, 1_000)
            if not commits:
                query = (
                    "SELECT pg_cancel_backend(pid) FROM pg_locks WHERE relation = 'changes'::regclass AND NOT granted"
                )
                await taker.execute(query)
                with pytest.raises(Unavailable):
                    await sending
        if commits:
            await sending
    assert (upload.sha256 in await media.collect(DAY, 1_000)) is not commits
    assert (await media.get(upload.media_id) is not None) is commits


async def waits_for_table(conn: Any) -> bool:
    found = await conn.execute("SELECT 1 FROM pg_locks WHERE relation = 'changes'::regclass AND NOT granted")
    return await found.fetchone() is not None
