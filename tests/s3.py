"""A real S3 server for tests: nanio, which checks every signature, on a free port of this machine."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from nanio.app import build_app
from nanio.auth.credentials import StaticCredentialResolver
from nanio.config import Settings
from starlette.types import ASGIApp, Receive, Scope, Send

from adapters.object_store import S3Access

KEY, SECRET, REGION, BUCKET = "AKIATEST", "test-secret-test-secret", "eu-central-1", "files"


@dataclass
class Conditional:
    """Adds what this server lacks and S3 has: ``If-None-Match: *`` of a PUT is refused where there is an object.

    It also plays a server in trouble.
    """

    app: ASGIApp
    folder: Path
    is_on: bool = True
    is_in_trouble: bool = False
    one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.is_in_trouble:
            await _refuse(send, 503, b"ServiceUnavailable")
            return
        if scope["type"] == "http" and scope["method"] == "PUT" and self.is_on:
            async with self.one_at_a_time:
                if (b"if-none-match", b"*") in scope["headers"] and (self.folder / scope["path"].lstrip("/")).exists():
                    await _refuse(send, 412, b"PreconditionFailed")
                    return
                await self.app(scope, receive, send)
                return
        await self.app(scope, receive, send)


async def _refuse(send: Send, status: int, code: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/xml")]})
    await send({"type": "http.response.body", "body": b"<Error><Code>%s</Code></Error>" % code})


@dataclass
class S3:
    """The server: how to reach it, and where its objects are."""

    access: S3Access
    folder: Path
    conditional: Conditional

    @property
    def names(self) -> list[str]:
        """The names of all objects in the bucket."""
        bucket = self.folder / BUCKET
        found = (str(file.relative_to(bucket)) for file in bucket.rglob("*") if file.is_file())
        return sorted(name for name in found if not name.startswith("."))


@asynccontextmanager
async def open_s3_server(folder: Path) -> AsyncIterator[S3]:
    """Run the server, with one bucket, while the block runs."""
    (folder / BUCKET).mkdir(parents=True)
    credentials = StaticCredentialResolver({KEY: SECRET})
    app = Conditional(build_app(Settings(data_dir=folder, region=REGION, credentials=credentials)), folder)
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, ws="none", log_config=None, access_log=False))
    running = asyncio.create_task(server.serve([listening]))
    try:
        yield S3(S3Access(f"http://127.0.0.1:{listening.getsockname()[1]}", REGION, KEY, SECRET), folder, app)
    finally:
        server.should_exit = True
        await running
