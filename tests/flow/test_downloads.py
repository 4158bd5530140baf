"""Downloads over HTTP: ranges, conditions, HEAD, states of a file, and URLs that need no token."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from obstore.store import MemoryStore

from adapters.auth import issue
from adapters.blobs import ObjectBlobs, open_folder_blobs
from adapters.memory.blobs import MemoryBlobs
from adapters.memory.media import MemoryMedia
from adapters.memory.tables import Tables
from adapters.upload_objects import ObjectUploads
from domain.downloads import SignedUrls
from domain.media import CLEAN, THUMBNAIL, Blobs, MediaInfo, blob
from domain.rates import Limit
from ingest.http.auth import Strangers
from ingest.http.media import MediaEndpoints
from tests import make
from tests.flow.api import SECRET, Api, open_api

CONTENT = bytes(range(256)) * 4
TUS = {"tus-resumable": "1.0.0"}
INFO = MediaInfo(media_type="image/png", served="clean", clean=b"", thumbnail=b"")


@dataclass
class Clock:
    """A clock that is set by hand."""

    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def api(tmp_path: Path, clock: Clock) -> AsyncIterator[Api]:
    async with open_api(tmp_path, urls=SignedUrls(SECRET.encode(), 300, clock)) as opened:
        yield opened


async def shared(api: Api, content: bytes = CONTENT, name: str = "YS5wbmc=") -> str:
    """Upload a file as alice and attach it to a message that bob and carol may read; return its id."""
    headers = {**TUS, "upload-length": str(len(content)), "upload-metadata": f"filename {name}"}
    begun = await api.call("createUpload", 201, headers=headers)
    media_id = begun.headers["location"].rpartition("/")[2]
    if content:
        headers = {**TUS, "upload-offset": "0", "content-type": "application/offset+octet-stream"}
        await api.call("continueUpload", 204, path={"id": media_id}, headers=headers, content=content)
    message = {"conversationId": make.ROOM, "type": "file", "attachments": [media_id]}
    await api.call("sendMessage", 201, json=message)
    return media_id


async def inspect(api: Api, media_id: str, info: MediaInfo = INFO) -> None:
    """Save what the media stage has found, with bytes of its own for the copy and the thumbnail."""
    media = await api.media.get(media_id)
    if info.clean is not None:
        await api.blobs.put(blob(media.sha256, CLEAN), CONTENT[::-1])
    if info.thumbnail is not None:
        await api.blobs.put(blob(media.sha256, THUMBNAIL), b"small")
    await api.media.save_probe(media.sha256, info)


async def read(api: Api, media_id: str, expect: int = 200, operation: str = "getMedia", user="bob", **headers: str):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await api.call(operation, expect, user=user, path={"id": media_id}, headers=named)


async def test_a_picture_is_shown_and_anything_else_is_saved(api):
    media_id = await shared(api)
    await inspect(api, media_id)
    clean = await read(api, media_id)
    assert (clean.content, clean.headers["content-type"]) == (CONTENT[::-1], "image/png")
    assert clean.headers["content-disposition"] == "inline; filename=\"a.png\"; filename*=UTF-8''a.png"
    assert clean.headers["cache-control"] == "private, max-age=86400, immutable"
    assert clean.headers["vary"] == "authorization, Origin"
    assert clean.headers["content-security-policy"] == "sandbox; default-src 'none'"
    other = await shared(api, b"<script>alert(1)</script>", "cGFnZS5odG1s")
    await inspect(api, other, MediaInfo(media_type="text/html", served="original"))
    page = await read(api, other)
    assert page.headers["content-type"] == "application/octet-stream"
    assert page.headers["content-disposition"].startswith("attachment; ")


@pytest.mark.parametrize(
    ("asked", "start", "end"), [("bytes=0-1", 0, 2), ("bytes=1014-", 1014, 1024), ("bytes=-10", 1014, 1024)]
)
@pytest.mark.parametrize("stored", ["in memory", "on the disk", "in objects"])
async def test_a_range_brings_its_bytes(tmp_path, stored, asked, start, end):
    kinds: dict[str, Callable[[], Blobs]] = {
        "in memory": MemoryBlobs,
        "on the disk": lambda: open_folder_blobs(tmp_path),
        "in objects": lambda: ObjectBlobs(MemoryStore()),
    }
    media = MediaEndpoints(MemoryMedia(Tables()), kinds[stored](), ObjectUploads(MemoryStore()))
    async with open_api(tmp_path, media=media) as api:
        media_id = await owned(api)
        part = await read(api, media_id, 206, user="alice", range=asked)
        assert part.content == CONTENT[start:end]
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/1024"
        assert part.headers["content-length"] == str(end - start)


async def owned(api: Api) -> str:
    """Upload a file as alice, who may read it before it is inspected; return its id."""
    begun = await api.call("createUpload", 201, headers={**TUS, "upload-length": str(len(CONTENT))})
    media_id = begun.headers["location"].rpartition("/")[2]
    headers = {**TUS, "upload-offset": "0", "content-type": "application/offset+octet-stream"}
    await api.call("continueUpload", 204, path={"id": media_id}, headers=headers, content=CONTENT)
    return media_id


async def test_a_broken_download_goes_on_while_the_file_is_the_same(api):
    media_id = await shared(api)
    await inspect(api, media_id)
    etag = (await read(api, media_id)).headers["etag"]
    rest = await read(api, media_id, 206, range="bytes=1000-", if_range=etag)
    assert rest.content == CONTENT[::-1][1000:]
    assert (await read(api, media_id, 200, range="bytes=1000-", if_range='"another"')).content == CONTENT[::-1]
    assert (await read(api, media_id, 200, range="bytes=0-1,5-6")).content == CONTENT[::-1]


async def test_a_range_behind_the_end_is_refused_with_the_size(api):
    media_id = await shared(api)
    await inspect(api, media_id)
    refused = await read(api, media_id, 416, range="bytes=1024-")
    assert refused.headers["content-range"] == "bytes */1024"
    assert refused.json()["code"] == "range_not_satisfiable"


async def test_a_copy_that_one_has_is_not_sent_again(api):
    media_id = await shared(api)
    await inspect(api, media_id)
    etag = (await read(api, media_id)).headers["etag"]
    for headers in ({"if_none_match": etag}, {"if_none_match": f'"x", W/{etag}', "range": "bytes=0-1"}):
        same = await read(api, media_id, 304, **headers)
        assert (same.content, same.headers["etag"]) == (b"", etag)
        assert "content-length" not in same.headers
    await read(api, media_id, 200, if_none_match='"x"')
    await read(api, media_id, 200, if_match=etag)
    assert (await read(api, media_id, 412, if_match='"x"')).json()["code"] == "precondition_failed"


async def test_head_tells_what_get_would_bring(api):
    media_id = await shared(api)
    await inspect(api, media_id)
    got = await read(api, media_id)
    head = await read(api, media_id, operation="getUpload", range="bytes=0-1")
    assert head.content == b""
    assert dict(head.headers) == dict(got.headers)
    await read(api, media_id, 304, operation="getUpload", if_none_match=got.headers["etag"])
    await read(api, media_id, 404, operation="getUpload", user="eve")
    thumbnail = await api.http.head(f"/media/{media_id}/thumbnail", headers=token("bob"))
    assert (thumbnail.status_code, thumbnail.headers["content-length"], thumbnail.content) == (200, "5", b"")


def token(user: str) -> dict[str, str]:
    return {"authorization": f"Bearer {issue(SECRET, user, ttl_s=60)}"}


async def test_a_file_is_read_once_it_was_inspected_and_by_its_owner_before(api):
    media_id = await shared(api)
    for operation in ("getMedia", "getThumbnail"):
        early = await read(api, media_id, 409, operation=operation)
        assert (early.json()["code"], early.headers["retry-after"]) == ("media_not_ready", "1")
    mine = await read(api, media_id, user="alice")
    assert (mine.content, mine.headers["cache-control"]) == (CONTENT, "private, no-cache")
    assert mine.headers["content-disposition"].startswith("attachment; ")
    await inspect(api, media_id)
    assert (await read(api, media_id, user="alice")).content == CONTENT[::-1]
    original = {"path": {"id": media_id}, "params": {"original": "true"}}
    assert (await api.call("getMedia", 200, user="alice", **original)).content == CONTENT
    assert (await api.problem("getMedia", 403, user="bob", **original))["code"] == "forbidden"
    head = await api.call("getUpload", 200, user="alice", **original)
    assert head.headers["etag"].endswith('-original"')


async def test_a_url_is_signed_once_its_file_was_inspected_so_that_a_page_can_show_it(api):
    media_id = await shared(api)
    for user in ("alice", "bob"):
        early = await api.problem("signMediaUrl", 409, user=user, path={"id": media_id})
        assert early["code"] == "media_not_ready"
    await inspect(api, media_id)
    await api.call("signMediaUrl", 201, user="alice", path={"id": media_id})


async def test_what_has_no_clean_copy_is_its_owners_alone(api):
    media_id = await shared(api)
    await inspect(api, media_id, MediaInfo(media_type="video/mp4", served="none", error="the video is damaged"))
    refused = await read(api, media_id, 409)
    assert refused.json()["code"] == "media_unavailable"
    assert "the video is damaged" in refused.json()["detail"]
    assert "retry-after" not in refused.headers
    mine = await read(api, media_id, user="alice")
    assert (mine.content, mine.headers["content-type"]) == (CONTENT, "video/mp4")
    assert (await read(api, media_id, 404, operation="getThumbnail")).json()["code"] == "not_found"


async def test_an_empty_file_is_read_by_members(api):
    media_id = await shared(api, b"")
    await inspect(api, media_id, MediaInfo(media_type="application/octet-stream", served="original"))
    empty = await read(api, media_id)
    assert (empty.content, empty.headers["content-length"]) == (b"", "0")
    assert (await read(api, media_id, 416, range="bytes=0-")).headers["content-range"] == "bytes */0"
    await read(api, media_id, 200, range="bytes=-1")


@pytest.mark.parametrize("media_id", ["%00", "%2e%2e%2fuploads", "a" * 300, "nonsense", "%F0%9F%98%80", "..%5Cx"])
async def test_what_is_no_id_is_not_found(api, media_id):
    headers = {**token("alice"), "content-type": "application/offset+octet-stream", "upload-offset": "0"}
    for method in ("GET", "HEAD", "PATCH", "DELETE", "POST"):
        path = f"/media/{media_id}/url" if method == "POST" else f"/media/{media_id}"
        for more in ({}, TUS):
            answer = await api.http.request(method, path, headers={**headers, **more})
            assert answer.status_code in (404, 412, 405), (method, answer.text)
    assert (await api.http.get(f"/media/{media_id}/thumbnail", headers=headers)).status_code == 404


# Signed URLs


async def signed(api: Api, media_id: str, part: str = "file", user: str = "bob", expect: int = 201) -> dict:
    answer = await api.call("signMediaUrl", expect, user=user, path={"id": media_id}, params={"part": part})
    return answer.json()


async def open_url(api: Api, url: str, expect: int, method: str = "GET", **headers: str):
    answer = await api.http.request(method, url, headers={k.replace("_", "-"): v for k, v in headers.items()})
    assert answer.status_code == expect, answer.text
    return answer


async def test_a_signed_url_reads_a_file_without_a_token(api, clock):
    media_id = await shared(api)
    await inspect(api, media_id)
    url = (await signed(api, media_id))["url"]
    assert url.startswith(f"/media/{media_id}/signed?")
    clock.now += 100
    whole = await open_url(api, url, 200)
    assert (whole.content, whole.headers["content-type"]) == (CONTENT[::-1], "image/png")
    assert whole.headers["cache-control"] == "private, max-age=200"
    assert whole.headers["referrer-policy"] == "no-referrer"
    assert (await open_url(api, url, 206, range="bytes=0-1")).content == CONTENT[::-1][:2]
    assert (await open_url(api, url, 200, "HEAD")).headers["content-length"] == "1024"
    await open_url(api, url, 304, if_none_match=whole.headers["etag"])
    small = await open_url(api, (await signed(api, media_id, "thumbnail"))["url"], 200)
    assert (small.content, small.headers["content-type"]) == (b"small", "image/webp")
    mine = await open_url(api, (await signed(api, media_id, "original", "alice"))["url"], 200)
    assert mine.content == CONTENT


async def test_a_signed_url_ends(api, clock):
    media_id = await shared(api)
    await inspect(api, media_id)
    answer = await signed(api, media_id)
    assert answer["expiresAt"] == "2027-01-15T08:05:00.000Z"
    clock.now += 300
    refused = await open_url(api, answer["url"], 403)
    assert (refused.json()["code"], refused.headers["cache-control"]) == ("forbidden", "no-store")
    assert "signature" not in refused.text


@pytest.mark.parametrize("change", [("user", "carol"), ("part", "thumbnail"), ("expires", "1800009999"), ("id", "")])
async def test_a_signed_url_that_was_changed_is_worth_nothing(api, change):
    media_id, other = await shared(api), await shared(api, b"other")
    for each in (media_id, other):
        await inspect(api, each)
    url = urlsplit((await signed(api, media_id))["url"])
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    name, value = change
    path = f"/media/{other}/signed" if name == "id" else url.path
    answer = await api.http.get(path, params=query if name == "id" else {**query, name: value})
    assert answer.status_code == 403


async def test_a_signed_url_ends_with_the_membership(api):
    media_id = await shared(api)
    await inspect(api, media_id)
    url = (await signed(api, media_id))["url"]
    await api.call("removeMember", 204, user="alice", path={"userId": "bob"})
    await open_url(api, url, 404)
    await signed(api, media_id, expect=404)


async def test_a_url_is_signed_for_those_who_may_read_now(api):
    media_id = await shared(api)
    assert (await signed(api, media_id, expect=409))["code"] == "media_not_ready"
    await signed(api, media_id, user="eve", expect=404)
    await inspect(api, media_id)
    await signed(api, media_id, "original", expect=403)
    await signed(api, media_id, "nonsense", expect=422)


@pytest.mark.parametrize("query", ["", "?part=file", "?part=file&user=bob&expires=99999999999&signature=x"])
async def test_an_address_that_guesses_signatures_is_slowed_down(tmp_path, query):
    async with open_api(tmp_path, strangers=Strangers(Limit(1.0, 5.0))) as api:
        media_id = await shared(api)
        answers = [(await api.http.get(f"/media/{media_id}/signed{query}")).status_code for _ in range(7)]
        assert set(answers[:5]) <= {403, 422}
        assert answers[6] == 429 if "signature" in query else answers[6] == 422


async def test_a_signed_url_takes_from_its_users_budget(tmp_path):
    async with open_api(tmp_path, limits={"requests": Limit(0.01, 3.0)}) as api:
        media_id = await shared(api)
        await inspect(api, media_id)
        url = (await signed(api, media_id))["url"]
        assert [(await api.http.get(url)).status_code for _ in range(3)] == [200, 200, 429]


async def test_without_a_key_no_url_is_signed(tmp_path):
    async with open_api(tmp_path, urls=SignedUrls()) as api:
        media_id = await shared(api)
        await inspect(api, media_id)
        assert "turned off" in (await signed(api, media_id, expect=404))["detail"]


# tus


async def test_anybody_may_ask_what_is_spoken(api):
    for operation in ("describeUploads", "describeUpload"):
        answer = await api.call(operation, 204, user=None)
        assert answer.headers["tus-extension"] == "creation,termination"


async def test_an_upload_is_given_up(api):
    begun = await api.call("createUpload", 201, headers={**TUS, "upload-length": "4"})
    path = {"id": begun.headers["location"].rpartition("/")[2]}
    await api.problem("endUpload", 404, user="bob", path=path, headers=TUS)
    await api.call("endUpload", 204, path=path, headers=TUS)
    await api.call("getUpload", 404, path=path, headers=TUS)
    await api.problem("endUpload", 404, path=path, headers=TUS)
    await api.problem("endUpload", 412, path=path)
    media_id = await shared(api)
    assert (await api.problem("endUpload", 409, path={"id": media_id}, headers=TUS))["code"] == "conflict"
