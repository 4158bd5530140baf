"""Uploaders: some users upload small files in pieces, go on after faults, and attach them to messages."""

from __future__ import annotations

import asyncio
import random
import time
from base64 import b64encode
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256

from verify import sent_files
from verify.activity import Access, until
from verify.history import History, Room, Sending
from verify.http_answers import TRY_S, Answered, Caller
from verify.observations import Download, Files, Upload
from verify.senders import Senders
from verify.workload import Send, SendMode

UPLOADERS = 2
_PAUSE_S = (1.5, 4.0)
_TRY_AGAIN_S = 0.5
_PATIENCE_S = 60.0
"""Time after the last fault in which an upload may still be refused."""
_HANG_UP_S = 0.02
_HANGS_UP = 0.2
"""Share of pieces whose client does not wait for the answer."""
_END_S = 20.0
_DOWNLOADS = 4
_TUS = {"tus-resumable": "1.0.0"}
_BUSY = (408, 409)
"""Answers to a client that comes back while its first request still writes, or with an old offset."""


@dataclass(slots=True)
class Uploader:
    """A member who uploads one file after the other to a conversation. Once ``over`` is set the present one is the
    last: a message whose sending was cut off could not be judged."""

    user: str
    room: Room
    run: str
    name: str
    caller: Caller
    senders: Senders
    files: Files
    chance: random.Random
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def go_on(self) -> None:
        """Upload, attach, pause, and so on until it is over."""
        number = 0
        while not self.over.is_set():
            name = f"{self.run} {self.name} file {number}"
            make = sent_files.picture if number % 2 == 0 else sent_files.text
            upload = Upload(self.user, self.room.conversation_id, make(self.chance, name))
            if await self._create(upload):
                self.files.uploads.append(upload)
                await self._fill(upload)
                if upload.is_complete:
                    await self._attach(upload, number)
            number += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(self.over.wait(), self.chance.uniform(*_PAUSE_S))

    async def _create(self, upload: Upload) -> bool:
        """Announce the file; return False when it could not be. An upload whose id never came is deleted by itself."""
        file = upload.file
        fields = {"filename": file.name, "filetype": file.declared_type}
        metadata = ",".join(f"{key} {b64encode(value.encode()).decode()}" for key, value in fields.items())
        headers = {**_TUS, "upload-length": str(len(file.content)), "upload-metadata": metadata}
        answered: Answered[None] = await self.caller.request(
            "upload created", self.user, "POST", "/media", ok=(201,), headers=headers
        )
        if answered.response is None or answered.call.status != 201:
            return False
        upload.media_id = answered.response.headers.get("location", "").rpartition("/")[2]
        return True

    async def _fill(self, upload: Upload) -> None:
        """Send the bytes in two pieces, or more where an answer did not come."""
        size, give_up = len(upload.file.content), float("inf")
        offset: int | None = 0
        while not upload.is_complete and not upload.lost and time.monotonic() < give_up:
            if self.over.is_set():
                give_up = min(give_up, time.monotonic() + _PATIENCE_S)
            if offset is None:
                await asyncio.sleep(_TRY_AGAIN_S)
                offset = await self._ask(upload)
                continue
            end = size if offset >= size // 2 else size // 2
            offset = await self._piece(upload, offset, end)

    async def _piece(self, upload: Upload, offset: int, end: int) -> int | None:
        """Send the bytes between two offsets; return the offset that is answered."""
        hangs_up = self.chance.random() < _HANGS_UP
        headers = {**_TUS, "upload-offset": str(offset), "content-type": "application/offset+octet-stream"}
        answered: Answered[None] = await self.caller.request(
            "upload abandoned" if hangs_up else "upload continued",
            self.user,
            "PATCH",
            f"/media/{upload.media_id}",
            ok=(204,),
            also=_BUSY,
            headers=headers,
            content=upload.file.content[offset:end],
            timeout_s=_HANG_UP_S if hangs_up else TRY_S,
        )
        return self._noted(upload, answered)

    async def _ask(self, upload: Upload) -> int | None:
        answered: Answered[None] = await self.caller.request(
            "upload offset",
            self.user,
            "HEAD",
            f"/media/{upload.media_id}",
            ok=(200, 204),
            also=_BUSY,
            headers=_TUS,
        )
        return self._noted(upload, answered)

    def _noted(self, upload: Upload, answered: Answered[None]) -> int | None:
        call = answered.call
        if call.status in (404, 410):
            upload.lost = f"{call.what} was answered {call.status}"
        if answered.response is None or call.status not in (200, 204):
            return None
        offset = int(answered.response.headers.get("upload-offset", "-1"))
        upload.offsets.append((call.began, call.ended, offset))
        return offset

    async def _attach(self, upload: Upload, number: int) -> None:
        send = Send(
            at=0.0,
            sender=self.user,
            key=f"{self.run}-{self.name}-file-{number}",
            content=f"{self.run} {self.name}-file-{number}",
            mode=SendMode.PLAIN,
            type="file" if upload.file.picture is None else "image",
            attachments=(upload.media_id,),
        )
        sending = Sending(send)
        self.room.sendings.append(sending)
        upload.message_key = send.key
        await self.senders.send(self.room.conversation_id, sending)
        if sending.accepted is not None:
            others = [user for user in self.room.workload.members if user != self.user]
            await self.download(upload, self.chance.choice(others), "file", is_last=False)

    # the end

    async def conclude(self) -> None:
        """Read every attached file as each member, until it is there or the time is up."""
        deadline, gate = time.monotonic() + _END_S, asyncio.Semaphore(_DOWNLOADS)
        keys = {sending.send.key for sending in self.room.sendings if sending.accepted is not None}
        members = self.room.workload.members

        async def read(upload: Upload, user: str, part: str) -> None:
            async with gate:
                await until(lambda: self.download(upload, user, part, is_last=False), deadline)
                await self.download(upload, user, part, is_last=True)

        attached = [upload for upload in self.files.uploads if upload.message_key in keys]
        parts = [(upload, user, "file") for upload in attached for user in members]
        parts += [(upload, self.user, "original") for upload in attached]
        parts += [(upload, members[-1], "thumbnail") for upload in attached if upload.file.picture is not None]
        await asyncio.gather(*(read(*part) for part in parts))

    async def download(self, upload: Upload, user: str, part: str, *, is_last: bool) -> bool:
        """Read a part of a file; return True when it came."""
        path = f"/media/{upload.media_id}{'/thumbnail' if part == 'thumbnail' else ''}"
        answered: Answered[None] = await self.caller.request(
            f"download of a {part}",
            user,
            "GET",
            path,
            also=(404, 409) if user == self.room.workload.leaver else (409,),
            params={"original": "true"} if part == "original" else None,
        )
        if answered.response is None or answered.call.status != 200:
            self.files.downloads.append(Download(answered.call, upload.media_id, part, is_last=is_last))
            return False
        content = answered.response.content
        self.files.downloads.append(
            Download(
                answered.call,
                upload.media_id,
                part,
                answered.response.headers.get("content-type", ""),
                sha256(content).digest(),
                sent_files.shown_by(content),
                bool(upload.file.secret) and upload.file.secret in content,
                is_last,
            )
        )
        return True


@dataclass(slots=True)
class Uploaders:
    """The uploaders of a run, an activity: owners of some conversations."""

    history: History
    seed: int
    uploaders: list[Uploader] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def prepare(self, access: Access, rooms: Sequence[Room]) -> None:
        """Choose the uploaders."""
        chance = random.Random(self.seed)
        caller = Caller(access.client, access.http, access.token, self.history.calls)
        senders = Senders(access.client, access.http, access.token)
        for number, room in enumerate(chance.sample(list(rooms), min(UPLOADERS, len(rooms)))):
            self.uploaders.append(
                Uploader(
                    room.workload.owner,
                    room,
                    self.history.run,
                    f"uploader-{number}",
                    caller,
                    senders,
                    self.history.files,
                    random.Random(chance.random()),
                )
            )

    async def run(self) -> None:
        """Upload until cancelled; the present files are completed beyond that, see ``settle``."""
        self.tasks += [asyncio.create_task(uploader.go_on()) for uploader in self.uploaders]
        try:
            await asyncio.wait(self.tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for uploader in self.uploaders:
                uploader.over.set()
        await asyncio.gather(*self.tasks)

    async def settle(self) -> None:
        """Complete the present files; within two minutes or so."""
        await asyncio.gather(*self.tasks)

    async def conclude(self) -> None:
        """Read all attached files, when everybody has everything."""
        await asyncio.gather(*(uploader.conclude() for uploader in self.uploaders))

    async def close(self) -> None:
        """End the uploads."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
