"""Uploads and downloads over HTTP: what one user may take, and what slow, broken and hostile clients cost."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import uvicorn
from obstore.store import MemoryStore

from adapters.auth import issue
from adapters.blobs import PART, open_folder_blobs
from adapters.memory.blobs import MemoryBlobs
from adapters.memory.media import MemoryMedia
from adapters.memory.tables import Tables
from adapters.upload_folder import DiskFloor, open_folder
from adapters.upload_objects import ObjectUploads
from domain.errors import InsufficientStorage, Unavailable
from domain.media import Blob, Blobs, Keep, Media, kept
from domain.quotas import Quota
from domain.uploads import UploadStore
from ingest.http.media import MediaEndpoints, MediaLimits
from tests.flow.api import SECRET, Api, open_api

MB = 2**20
TUS = {"tus-resumable": "1.0.0"}
PATCH = {**TUS, "content-type": "application/offset+octet-stream"}
LIMITS = MediaLimits()
NO_FLOOR = DiskFloor(0, 0)


@asynccontextmanager
async def opened(
    folder: Path,
    limits: MediaLimits = LIMITS,
    media: MemoryMedia | None = None,
    blobs: Blobs | None = None,
    uploads: UploadStore | None = None,
    floor: DiskFloor = NO_FLOOR,
):
    """The API with these limits, and its media."""
    files, under_way = media or MemoryMedia(Tables()), uploads or open_folder(folder / "uploads", floor)
    async with open_api(folder, media=MediaEndpoints(files, blobs or MemoryBlobs(), under_way, limits)) as api:
        yield api, files


@pytest.fixture(params=["in a folder", "in objects"])
def uploads(request: pytest.FixtureRequest, tmp_path: Path) -> UploadStore:
    """Uploads under way, in either kind of place."""
    in_folder = request.param == "in a folder"
    return open_folder(tmp_path / "uploads", NO_FLOOR) if in_folder else ObjectUploads(MemoryStore())


async def begin(api: Api, size: int, **more: str) -> str:
    begun = await api.call("createUpload", 201, headers={**TUS, "upload-length": str(size)}, **more)
    return begun.headers["location"].rpartition("/")[2]


async def send(api: Api, media_id: str, content: bytes, offset: int, expect: int = 204, **more: str):
    headers = {**PATCH, "upload-offset": str(offset)}
    return await api.call("continueUpload", expect, path={"id": media_id}, headers=headers, content=content, **more)


async def arrived(api: Api, media_id: str) -> int:
    answer = await api.call("getUpload", 204, path={"id": media_id}, headers=TUS)
    return int(answer.headers["upload-offset"])


async def test_the_place_of_an_upload_is_relative_whatever_the_host_says(tmp_path):
    async with opened(tmp_path) as (api, _):
        headers = {**TUS, "upload-length": "1", "host": "evil.example", "x-forwarded-proto": "https"}
        begun = await api.call("createUpload", 201, headers=headers)
        media_id = begun.headers["location"].removeprefix("/media/")
        assert begun.headers["location"] == f"/media/{media_id}"
        await send(api, media_id, b"x", 0)


async def test_an_upload_is_its_callers_whatever_the_headers_say(tmp_path):
    async with opened(tmp_path) as (api, files):
        begun = await api.call(
            "createUpload", 201, headers={**TUS, "upload-length": "1", "millrace-owner": "bob"}, user="mallory"
        )
        path = {"id": begun.headers["location"].rpartition("/")[2]}
        await api.call("getUpload", 404, user="bob", path=path, headers=TUS)
        override = {**PATCH, "upload-offset": "0", "millrace-owner": "mallory", "x-http-method-override": "HEAD"}
        await api.problem("continueUpload", 404, user="bob", path=path, headers=override, content=b"x")
        await api.call("continueUpload", 204, user="mallory", path=path, headers=override, content=b"x")
        [media] = files.uploads.values()
        assert media.owner_id == "mallory"


@pytest.mark.parametrize("key", ["filename", "filetype"])
@pytest.mark.parametrize(
    "value",
    [base64.b64encode(b"caf\xe9.txt"), base64.b64encode(b"\xed\xa0\x80.txt"), b"not base64", b"YQ", "é".encode()],
)
async def test_metadata_that_is_no_text_is_refused_by_name(tmp_path, key, value):
    async with opened(tmp_path) as (api, _):
        headers = {**TUS, "upload-length": "1", "upload-metadata": b"%s %s" % (key.encode(), value)}
        problem = await api.problem("createUpload", 400, headers=headers)
        [error] = problem["errors"]
        assert error["path"] == f"Upload-Metadata.{key}"
        assert "UTF-8 in Base64" in error["message"]
        assert key in problem["detail"]


@pytest.mark.parametrize(
    ("name", "kept"),
    [("a\0b.txt", "ab.txt"), ("../../etc/passwd", "passwd"), ("", "file"), ("x" * 2000 + ".pdf", "x" * 251 + ".pdf")],
)
async def test_a_name_that_would_do_harm_is_cleaned_not_refused(tmp_path, name, kept):
    async with opened(tmp_path) as (api, files):
        encoded = base64.b64encode(name.encode()).decode()
        headers = {**TUS, "upload-length": "0", "upload-metadata": f"filename {encoded},filetype {encoded}"}
        await api.call("createUpload", 201, headers=headers)
        [media] = files.uploads.values()
        assert (media.file_name, media.declared_type) == (kept, "application/octet-stream")


async def test_the_name_and_type_of_a_file_are_kept_in_any_language(tmp_path):
    async with opened(tmp_path) as (api, files):
        encoded = {name: base64.b64encode(name.encode()).decode() for name in ("Prüfung 日本.pdf", "application/pdf")}
        metadata = ", ".join(
            f"{key} {value}" for key, value in zip(("filename", "filetype"), encoded.values(), strict=True)
        )
        headers = {**TUS, "upload-length": "0", "upload-metadata": f"{metadata},is_confidential,other !"}
        await api.call("createUpload", 201, headers=headers)
        [media] = files.uploads.values()
        assert [media.file_name, media.declared_type] == list(encoded)


async def test_an_empty_file_is_complete_when_it_is_begun(tmp_path, uploads):
    async with opened(tmp_path, uploads=uploads) as (api, files):
        media_id = await begin(api, 0)
        assert files.uploads[media_id].size == 0
        assert (await api.call("getMedia", 200, path={"id": media_id})).content == b""
        assert await arrived(api, media_id) == 0


async def test_uploads_beyond_the_quota_do_not_begin_and_go_on_when_one_is_complete(tmp_path):
    async with opened(tmp_path, replace(LIMITS, quota=Quota(uploads=3))) as (api, _):
        headers = {**TUS, "upload-length": "1"}
        answers = await asyncio.gather(
            *(api.http.post("/media", headers={**headers, **token("alice")}) for _ in range(20))
        )
        assert sorted(answer.status_code for answer in answers) == [201] * 3 + [429] * 17
        refused = await api.call("createUpload", 429, headers=headers)
        assert refused.json()["code"] == "quota_exceeded"
        assert int(refused.headers["retry-after"]) > 0
        assert refused.headers["tus-resumable"] == "1.0.0"
        await begin(api, 1, user="bob")  # nobody else is concerned
        [first, *_] = [answer for answer in answers if answer.status_code == 201]
        await send(api, first.headers["location"].rpartition("/")[2], b"x", 0)
        await begin(api, 1)


@pytest.mark.parametrize(
    ("quota", "comes_back"), [(Quota(daily_bytes=5 * MB), True), (Quota(stored_bytes=5 * MB), False)]
)
async def test_bytes_that_are_stored_and_those_under_way_count_together(tmp_path, quota, comes_back):
    async with opened(tmp_path, replace(LIMITS, quota=quota)) as (api, _):
        stored = await begin(api, 2 * MB)
        await send(api, stored, bytes(2 * MB), 0)
        await begin(api, 2 * MB)
        refused = await api.call("createUpload", 429, headers={**TUS, "upload-length": str(MB + 1)})
        assert refused.json()["code"] == "quota_exceeded"
        assert ("retry-after" in refused.headers) == comes_back
        await begin(api, MB)


async def test_a_disk_at_its_floor_refuses_uploads_and_nothing_else(tmp_path):
    async with opened(tmp_path) as (api, files):
        media_id = await begin(api, 4)
        done = await begin(api, 4)
        await send(api, done, b"done", 0)
    async with opened(tmp_path, media=files, floor=DiskFloor(2**60, 100)) as (api, _):
        full = await api.call("createUpload", 507, headers={**TUS, "upload-length": "1"})
        assert (full.json()["code"], full.headers["retry-after"]) == ("insufficient_storage", "60")
        assert (await send(api, media_id, b"abcd", 0, 507)).json()["code"] == "insufficient_storage"
        assert await arrived(api, media_id) == 0
        assert await arrived(api, done) == 4
        await api.call("listConversations", 200)
    async with opened(tmp_path, LIMITS, files) as (api, _):
        await send(api, media_id, b"abcd", 0)


async def test_a_file_of_32_mib_comes_in_one_part(tmp_path):
    blobs = open_folder_blobs(tmp_path)
    async with opened(tmp_path, blobs=blobs) as (api, _):
        content = os.urandom(32 * MB)
        media_id = await begin(api, len(content))
        await send(api, media_id, content, 0)
        answer = await api.call("getMedia", 200, path={"id": media_id})
        assert answer.headers["content-length"] == str(len(content))
        assert answer.content == content
        assert not [file for file in (tmp_path / "uploads").rglob("*") if file.is_file()]


async def test_a_part_without_a_length_is_taken_up_to_the_size_of_the_file(tmp_path, uploads):
    async def pieces(sizes: Sequence[int]) -> AsyncIterator[bytes]:
        for size in sizes:
            yield bytes(size)

    async with opened(tmp_path, uploads=uploads) as (api, _):
        media_id = await begin(api, MB)
        headers = {**PATCH, "upload-offset": "0"}
        path = {"id": media_id}
        await api.problem("continueUpload", 413, path=path, headers=headers, content=pieces([MB // 2, MB]))
        at = await arrived(api, media_id)
        assert at in (0, MB // 2)
        headers = {**PATCH, "upload-offset": str(at)}
        await api.call("continueUpload", 204, path=path, headers=headers, content=pieces([1, MB - at - 1]))


async def test_the_whole_at_once_eight_times_is_stored_once(tmp_path, uploads):
    async with opened(tmp_path, uploads=uploads) as (api, files):
        content = os.urandom(3 * MB)
        media_id = await begin(api, len(content))
        headers = {**PATCH, "upload-offset": "0", **token("alice")}
        answers = await asyncio.gather(
            *(api.http.patch(f"/media/{media_id}", headers=headers, content=content) for _ in range(8))
        )
        assert sorted(answer.status_code for answer in answers) == [204] + [409] * 7
        assert (await api.call("getMedia", 200, path={"id": media_id})).content == content
        assert len(files.uploads) == 1


class FailingMedia(MemoryMedia):
    """A store that is away for its next few writes."""

    failures = 1

    async def add(self, media: Media, keep: Keep = kept) -> None:
        if self.failures:
            self.failures -= 1
            raise Unavailable("PostgreSQL does not answer; try again")
        await MemoryMedia.add(self, media, keep)


@pytest.mark.parametrize("again", ["HEAD", "PATCH"])
async def test_an_upload_whose_last_step_fails_is_complete_when_the_client_asks_again(tmp_path, uploads, again):
    files = FailingMedia(Tables())
    async with opened(tmp_path, media=files, uploads=uploads) as (api, _):
        media_id = await begin(api, 4)
        assert (await send(api, media_id, b"abcd", 0, 503)).json()["code"] == "unavailable"
        if again == "HEAD":
            files.failures = 1
            await api.call("getUpload", 503, path={"id": media_id}, headers=TUS)
            assert await arrived(api, media_id) == 4
        else:
            await send(api, media_id, b"", 4)
        assert (await api.call("getMedia", 200, path={"id": media_id})).content == b"abcd"
        assert files.used["alice"].stored == 16 * 1024
        # The answer may have been lost on its way, so the client asks once more.
        assert await arrived(api, media_id) == 4
        await send(api, media_id, b"", 4)
        await send(api, media_id, b"abcd", 0, 409)


async def test_a_disk_that_is_full_at_the_last_step_loses_nothing(tmp_path):
    class Full(MemoryBlobs):
        async def put_file(self, name: str, path: Path) -> None:
            raise InsufficientStorage("no space is left for uploads; try again later")

    async with opened(tmp_path, blobs=Full()) as (api, files):
        media_id = await begin(api, 4)
        await send(api, media_id, b"abcd", 0, 507)
    async with opened(tmp_path, media=files) as (api, _):
        assert await arrived(api, media_id) == 4
        assert (await api.call("getMedia", 200, path={"id": media_id})).content == b"abcd"


def token(user: str) -> dict[str, str]:
    return {"authorization": f"Bearer {issue(SECRET, user, ttl_s=60)}"}


@dataclass
class Peer:
    """A connection to a real server, by which a client says what it likes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, method: str, path: str, *, user: str = "alice", **headers: str | int) -> None:
        lines = {**token(user), "host": "x", **{name.replace("_", "-"): value for name, value in headers.items()}}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode())
        await self.writer.drain()

    async def patch(self, media_id: str, content: bytes, *, offset: int, length: int) -> None:
        kind = {"tus_resumable": "1.0.0", "content_type": PATCH["content-type"]}
        await self.say("PATCH", f"/media/{media_id}", upload_offset=offset, content_length=length, **kind)
        self.writer.write(content)
        await self.writer.drain()

    async def status(self) -> int:
        async with asyncio.timeout(10):
            return int((await self.reader.readline()).split()[1])


@dataclass
class Server:
    """A real server, its API in process, and the peers of the test."""

    api: Api
    media: MemoryMedia
    port: int
    peers: list[Peer] = field(default_factory=list)

    async def peer(self, **how: object) -> Peer:
        where = {} if "sock" in how else {"host": "127.0.0.1", "port": self.port}
        self.peers.append(Peer(*await asyncio.open_connection(**where, **how)))
        return self.peers[-1]


@asynccontextmanager
async def served(folder: Path, limits: MediaLimits = LIMITS, **more: object) -> AsyncIterator[Server]:
    async with AsyncExitStack() as stack:
        api, media = await stack.enter_async_context(opened(folder, limits, **more))
        listening = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(api.app, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False)
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve([listening]))
        made = Server(api, media, listening.getsockname()[1])
        try:
            yield made
        finally:
            for peer in made.peers:
                peer.writer.transport.abort()
            server.should_exit = True
            await running


async def until(holds: Callable[[], Awaitable[bool]], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_body_is_on_the_disk_before_it_ends_and_what_came_before_a_cut_is_kept(tmp_path):
    async with served(tmp_path) as server:
        content = os.urandom(4 * MB)
        media_id = await begin(server.api, len(content))
        peer = await server.peer()
        await peer.patch(media_id, content[:-1], offset=0, length=len(content))

        async def mostly() -> bool:
            return sum(f.stat().st_size for f in (tmp_path / "uploads").rglob(f"*{media_id}")) >= 4 * MB - PART

        await until(mostly)
        peer.writer.transport.abort()

        async def everything() -> bool:
            return await arrived(server.api, media_id) == len(content) - 1

        await until(everything)
        await send(server.api, media_id, content[-1:], len(content) - 1)
        assert (await server.api.call("getMedia", 200, path={"id": media_id})).content == content


async def test_a_client_that_comes_back_ends_its_own_stalled_request(tmp_path, uploads):
    async with served(tmp_path, uploads=uploads) as server:
        media_id = await begin(server.api, 10)
        stalled = await server.peer()
        await stalled.patch(media_id, b"01234", offset=0, length=10)

        async def goes_on() -> bool:
            return await arrived(server.api, media_id) == 5

        await until(goes_on)
        await send(server.api, media_id, b"56789", 5)
        assert await stalled.status() == 408
        assert (await server.api.call("getMedia", 200, path={"id": media_id})).content == b"0123456789"


class CountedBlobs(MemoryBlobs):
    """A file of 32 MiB, and how much of it was read by all."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = 0

    async def size(self, name: str) -> int | None:
        return 32 * MB

    async def open(self, name: str, start: int = 0, end: int | None = None) -> Blob | None:
        return Blob(32 * MB, self._parts())

    async def _parts(self) -> AsyncIterator[bytes]:
        for _ in range(128):
            self.taken += PART
            yield bytes(PART)


async def test_a_file_is_read_no_faster_than_its_peers_take_it(tmp_path):
    blobs = CountedBlobs()
    async with served(tmp_path, blobs=blobs) as server:
        media_id = await begin(server.api, 0)
        for _ in range(20):
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.setblocking(False)
            await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", server.port))
            peer = await server.peer(sock=connection, limit=1024)
            await peer.say("GET", f"/media/{media_id}")
            assert await peer.status() == 200
        before = -1

        async def settled() -> bool:
            nonlocal before
            taken, before = before, blobs.taken
            await asyncio.sleep(0.3)
            return taken == before

        await until(settled, 20)
        # 20 peers take what their sockets hold (some MiB between both kernels' buffers), not 640 MiB.
        assert blobs.taken < 20 * 6 * MB
