"""Files in S3: an upload begun at one ingest is finished at another, and a real server checks every signature."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
from obstore.store import MemoryStore
from pydantic import SecretStr

from adapters.blobs import ObjectBlobs
from adapters.files import open_blobs, open_files
from adapters.memory.media import MemoryMedia
from adapters.memory.tables import Tables
from adapters.object_store import Place, S3Access, check, open_s3, place
from adapters.upload_folder import FolderUploads
from adapters.upload_objects import PART, ObjectUploads
from domain.errors import Conflict, QuotaExceeded, Unavailable
from domain.quotas import Quota, Usage, check_quota
from domain.uploads import BadStore, Upload
from ingest.http.media import MediaLimits
from ingest.orphans import collect_orphans
from runtime.media_settings import Media
from schemas.ids import new_id
from tests.flow.api import Api
from tests.flow.test_uploads import MB, FailingMedia, arrived, begin, opened, send, token
from tests.s3 import BUCKET, S3, open_s3_server

ROOT = Path(__file__).parents[2]
WHERE = Place(bucket=BUCKET, prefix="millrace/test")


@pytest.fixture
async def s3(tmp_path: Path) -> AsyncIterator[S3]:
    async with open_s3_server(tmp_path / "s3") as server:
        yield server


class Ingests:
    """Ingests that share S3 and a database, and nothing else."""

    def __init__(self, s3: S3, stack: AsyncExitStack, folder: Path) -> None:
        self.s3, self.stack, self.folder = s3, stack, folder
        self.media = MemoryMedia(Tables())

    async def one(self, limits: MediaLimits | None = None) -> Api:
        """The API of one more ingest."""
        store = open_s3(WHERE, self.s3.access)
        api, _ = await self.stack.enter_async_context(
            opened(
                self.folder, limits or MediaLimits(), self.media, blobs=ObjectBlobs(store), uploads=ObjectUploads(store)
            )
        )
        return api


@pytest.fixture
async def ingests(s3: S3, tmp_path: Path) -> AsyncIterator[Ingests]:
    async with AsyncExitStack() as stack:
        yield Ingests(s3, stack, tmp_path)


async def content_of(api: Api, media_id: str) -> bytes:
    return (await api.call("getMedia", 200, path={"id": media_id})).content


async def test_an_upload_is_begun_at_one_ingest_continued_at_a_second_and_read_at_a_third(ingests):
    first, second, third = [await ingests.one() for _ in range(3)]
    content = os.urandom(3 * MB)
    media_id = await begin(first, len(content))
    await send(second, media_id, content[:MB], 0)
    assert await arrived(third, media_id) == MB
    await send(first, media_id, content[MB : 2 * MB], MB)
    await send(second, media_id, content[2 * MB :], 2 * MB)
    assert await content_of(third, media_id) == content
    assert ingests.s3.names == [f"millrace/test/{sha256(content).hexdigest()}/original"]
    # The answer may have been lost on its way.
    assert await arrived(first, media_id) == len(content)


async def test_a_file_of_32_mib_comes_in_one_part_and_leaves_by_ranges(ingests):
    api = await ingests.one()
    content = os.urandom(32 * MB)
    media_id = await begin(api, len(content))
    await send(api, media_id, content, 0)
    assert await content_of(api, media_id) == content
    span = {"range": f"bytes={5 * MB - 1}-{7 * MB}"}
    part = await api.call("getMedia", 206, path={"id": media_id}, headers=span)
    assert part.content == content[5 * MB - 1 : 7 * MB + 1]


async def test_an_upload_that_several_ingests_complete_at_once_is_stored_once(ingests):
    """The last step failed, and the client asks everywhere how far it has come."""
    ingests.media = FailingMedia(Tables())
    apis = [await ingests.one() for _ in range(4)]
    content = os.urandom(2 * MB)
    media_id = await begin(apis[0], len(content))
    await send(apis[0], media_id, content[:MB], 0)
    await send(apis[1], media_id, content[MB:], MB, 503)
    path = f"/media/{media_id}"
    headers = {"tus-resumable": "1.0.0", **token("alice")}
    answers = await asyncio.gather(*(api.http.head(path, headers=headers) for api in apis))
    assert {answer.status_code for answer in answers} <= {204, 409, 503}
    assert 204 in {answer.status_code for answer in answers}
    assert await arrived(apis[2], media_id) == len(content)
    assert await content_of(apis[3], media_id) == content
    assert ingests.s3.names == [f"millrace/test/{sha256(content).hexdigest()}/original"]


async def test_a_file_whose_parts_are_being_deleted_is_not_taken_for_complete():
    upload = Upload(media_id=new_id(), owner_id="alice", file_name="a", declared_type="", size=8)
    uploads = ObjectUploads(MemoryStore())
    await uploads.create(upload, len)
    writer = await uploads.open(upload)
    await writer.append(b"12345678")
    await writer.sync()
    await writer.close()
    again = await uploads.open(upload)
    await uploads.remove(upload)  # by another ingest
    with pytest.raises(Unavailable):
        async with again.whole():
            pass
    await again.close()


async def test_an_empty_file_and_equal_files_are_kept(ingests):
    api = await ingests.one()
    empty = await begin(api, 0)
    assert await content_of(api, empty) == b""
    for _ in range(2):
        media_id = await begin(api, 4)
        await send(api, media_id, b"same", 0)
        assert await content_of(api, media_id) == b"same"
    assert len(ingests.s3.names) == 2


async def test_of_two_ingests_that_write_at_one_place_one_succeeds(s3):
    upload = Upload(media_id=new_id(), owner_id="alice", file_name="a", declared_type="", size=8)
    stores = [ObjectUploads(open_s3(WHERE, s3.access)) for _ in range(2)]
    await stores[0].create(upload, len)
    writers = [await store.open(upload) for store in stores]
    for writer, content in zip(writers, (b"aaaa", b"bbbbbb"), strict=True):
        await writer.append(content)
    outcomes = await asyncio.gather(*(writer.sync() for writer in writers), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes if outcome is not None] == [Conflict]
    winner = outcomes.index(None)
    assert await stores[0].arrived(upload) == (4, 6)[winner]
    assert writers[1 - winner].offset == 0
    async with writers[winner].whole() as path:
        assert path.read_bytes() == (b"aaaa", b"bbbbbb")[winner]
    for writer in writers:
        await writer.close()


async def test_one_request_of_an_ingest_at_a_time_writes_to_an_upload():
    upload = Upload(media_id=new_id(), owner_id="alice", file_name="a", declared_type="", size=8)
    uploads = ObjectUploads(MemoryStore())
    await uploads.create(upload, len)
    writer = await uploads.open(upload)
    assert writer is not None
    assert await uploads.open(upload) is None
    await writer.close()
    again = await uploads.open(upload)
    assert again is not None
    await again.close()


async def test_what_came_before_a_cut_is_kept_part_by_part(s3):
    upload = Upload(media_id=new_id(), owner_id="alice", file_name="a", declared_type="", size=3 * PART)
    here, there = (ObjectUploads(open_s3(WHERE, s3.access)) for _ in range(2))
    await here.create(upload, len)
    writer = await here.open(upload)
    content = os.urandom(2 * PART + MB)
    for start in range(0, len(content), MB):
        await writer.append(content[start : start + MB])
    assert await there.arrived(upload) == 2 * PART  # the process may die now
    await writer.sync()
    await writer.close()
    rest = await there.open(upload)
    assert rest.offset == len(content)
    await rest.append(bytes(upload.size - rest.offset))
    await rest.sync()
    async with rest.whole() as path:
        assert path.read_bytes() == content + bytes(upload.size - len(content))
    await rest.close()


async def test_no_more_uploads_than_the_quota_begin_on_several_ingests(s3):
    check = partial(check_quota, Quota(uploads=5), Usage(), size=1, now=datetime.now(UTC))
    stores = [ObjectUploads(open_s3(WHERE, s3.access)) for _ in range(3)]

    async def begin_one(number: int) -> bool:
        upload = Upload(media_id=new_id(), owner_id="alice", file_name="a", declared_type="", size=1)
        try:
            await stores[number % 3].create(upload, check)
        except QuotaExceeded:
            return False
        return True

    begun = sum(await asyncio.gather(*map(begin_one, range(30))))
    assert begun <= 5
    assert sum("/meta-" in name for name in s3.names) == begun


async def test_uploads_that_were_given_up_are_deleted_and_what_goes_on_is_not():
    old, new = (
        Upload(media_id=new_id(), owner_id=owner, file_name="a", declared_type="", size=8) for owner in ("alice", "bob")
    )
    uploads = ObjectUploads(MemoryStore())
    await uploads.create(old, len)
    between = time.time()
    await uploads.create(new, len)
    uploads.clock = lambda: between + 3600
    await uploads.remove_abandoned(3600)
    assert await uploads.find("alice", old.media_id) is None
    assert await uploads.find("bob", new.media_id) == new


async def test_an_upload_is_found_by_its_owner_alone_and_removed_once_and_for_all(s3):
    uploads = ObjectUploads(open_s3(WHERE, s3.access))
    upload = Upload(media_id=new_id(), owner_id="alice", file_name="a", declared_type="", size=8)
    await uploads.create(upload, len)
    assert await uploads.find("alice", upload.media_id) == upload
    assert await uploads.find("bob", upload.media_id) is None
    await uploads.remove(upload)
    await uploads.remove(upload)
    assert s3.names == []


async def test_a_file_that_no_upload_has_any_more_is_deleted(ingests):
    api = await ingests.one()
    media_id = await begin(api, 4)
    await send(api, media_id, b"gone", 0)
    await collect_orphans(ingests.media, ObjectBlobs(open_s3(WHERE, ingests.s3.access)), 0)
    await api.problem("getMedia", 404, path={"id": media_id})
    assert ingests.s3.names == []


async def test_a_server_in_trouble_costs_no_upload(ingests):
    api = await ingests.one()
    media_id = await begin(api, 4)
    ingests.s3.conditional.is_in_trouble = True
    assert (await send(api, media_id, b"abcd", 0, 503)).json()["code"] == "unavailable"
    ingests.s3.conditional.is_in_trouble = False
    await send(api, media_id, b"abcd", 0)
    assert await content_of(api, media_id) == b"abcd"


# ---- settings


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"MILLRACE_MEDIA__URL": "gs://bucket"}, "MILLRACE_MEDIA__URL"),
        ({"MILLRACE_MEDIA__URL": f"s3://{BUCKET}", "MILLRACE_MEDIA__S3_SECRET_ACCESS_KEY": "geheim"}, "keys of"),
        ({"MILLRACE_MEDIA__URL": "s3://absent"}, "bucket that exists"),
        ({"MILLRACE_MEDIA__SIGNING_KEY": "short"}, "SIGNING_KEY"),
    ],
    ids=["scheme", "keys", "bucket", "signing key"],
)
async def test_an_ingest_that_cannot_keep_files_ends_and_says_why(s3, tmp_path, wrong, named):
    env = {
        "PYTHONPATH": str(ROOT),
        "MILLRACE_DATA_DIR": str(tmp_path),
        "MILLRACE_MEDIA__S3_ENDPOINT": s3.access.endpoint,
        "MILLRACE_MEDIA__S3_REGION": s3.access.region,
        "MILLRACE_MEDIA__S3_ACCESS_KEY_ID": s3.access.access_key_id,
        "MILLRACE_MEDIA__S3_SECRET_ACCESS_KEY": s3.access.secret_access_key,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ingest", env={**env, **wrong}, cwd=ROOT, stdout=PIPE, stderr=STDOUT
    )
    async with asyncio.timeout(60):
        shown = (await process.communicate())[0].decode()
    assert process.returncode == 78
    assert "settings_invalid" in shown
    assert named in shown
    assert "geheim" not in shown


async def test_the_settings_name_the_place(s3, tmp_path):
    in_s3 = Media(
        url=f"s3://{BUCKET}/here",
        s3_endpoint=s3.access.endpoint,
        s3_region=s3.access.region,
        s3_access_key_id=s3.access.access_key_id,
        s3_secret_access_key=SecretStr(s3.access.secret_access_key),
    )
    for settings, uploads in ((in_s3, ObjectUploads), (Media(), FolderUploads)):
        blobs, under_way = await open_files(settings, tmp_path)
        assert isinstance(under_way, uploads)
        await blobs.put("abc/clean", b"clean")
        assert await open_blobs(settings, tmp_path).get("abc/clean") == b"clean"
    assert "here/abc/clean" in s3.names
    assert (tmp_path / "media" / "abc" / "clean").read_bytes() == b"clean"


async def test_a_bucket_that_can_be_used_passes_the_check_again_and_again(s3):
    for _ in range(2):
        await check(open_s3(WHERE, s3.access))


async def test_what_is_wrong_with_a_bucket_is_told(s3):
    with pytest.raises(BadStore, match="keys of MILLRACE_MEDIA__S3"):
        await check(open_s3(WHERE, replace(s3.access, secret_access_key="another")))
    with pytest.raises(BadStore, match="bucket that exists"):
        await check(open_s3(replace(WHERE, bucket="absent"), s3.access))
    s3.conditional.is_on = False
    with pytest.raises(BadStore, match="If-None-Match"):
        await check(open_s3(WHERE, s3.access))


async def test_a_server_that_is_away_is_told_as_that():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        with pytest.raises(Unavailable):
            await check(open_s3(WHERE, S3Access(f"http://127.0.0.1:{nobody.getsockname()[1]}", "r", "k", "s")))


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("", Place(Path("/data/media"))),
        ("file:///srv/files", Place(Path("/srv/files"))),
        ("file:///srv/with%20space", Place(Path("/srv/with space"))),
        ("s3://bucket", Place(bucket="bucket")),
        ("s3://bucket/a/b/", Place(bucket="bucket", prefix="a/b")),
    ],
)
def test_a_url_names_a_folder_or_a_bucket(url, found):
    assert place(url, Path("/data/media")) == found


@pytest.mark.parametrize(
    "url", ["/srv", "file://host/srv", "file:///", "s3:///x", "s3://", "gs://b", "s3://k:s@b/p", "s3://b?x=1", "s3:b"]
)
def test_another_url_is_refused_by_name(url):
    with pytest.raises(BadStore, match="MILLRACE_MEDIA__URL"):
        place(url, Path("/data/media"))


def test_half_of_a_key_is_refused():
    with pytest.raises(BadStore, match="S3_SECRET_ACCESS_KEY"):
        open_s3(WHERE, S3Access(access_key_id="a"))


def test_no_secret_is_shown():
    assert "geheim" not in repr(S3Access(secret_access_key="geheim"))
