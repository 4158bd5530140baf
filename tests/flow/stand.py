"""A front of deploy/ before a gateway on twins and ingests that note what reaches them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from stack.ports import allot
from stack.servers.haproxy import Backend
from tests.fronts import Front


@dataclass
class Noting:
    """Stands in for an ingest's two ports: notes what reaches it, and answers, or dies before it does."""

    name: str
    port: int
    dies: bool = False
    ready: bool = True
    heard: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = [line for line in head.lower().splitlines() if line.startswith("content-length:")]
                if length:
                    await reader.readexactly(int(length[0].split(":")[1]))
                if "/readyz" in head:
                    writer.write(b"HTTP/1.1 %d x\r\ncontent-length: 0\r\n\r\n" % (200 if self.ready else 503))
                    continue
                self.heard.append(head)
                if self.dies:
                    return
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@dataclass
class Stand:
    """A front, what is behind it, and a client of it."""

    front: Front
    ingests: list[Noting]
    http: httpx2.AsyncClient

    @property
    def heard(self) -> list[str]:
        return [head for ingest in self.ingests for head in ingest.heard]


@asynccontextmanager
async def standing(kind: str, folder: Path, gateway: int, **more: Any) -> AsyncIterator[Stand]:
    ports = allot(["ingest-1", "ingest-2", "nobody"], {}, {})
    ingests = [Noting(name, ports[name]) for name in ("ingest-1", "ingest-2")]
    async with AsyncExitStack() as stack:
        for ingest in ingests:
            server = await asyncio.start_server(ingest.serve, "127.0.0.1", ingest.port)
            await stack.enter_async_context(server)
        nodes = [Backend(ingest.name, ingest.port, ingest.port) for ingest in ingests]
        gateways = [
            Backend("gateway-1", gateway, ingests[0].port),
            # It takes no connections, although it says that it is ready.
            *(Backend(f"gateway-{n}", ports["nobody"], ingests[0].port) for n in (2, 3)),
        ]
        front = Front(kind, folder, nodes, gateways, **more)
        await front.start()
        stack.callback(front.end)
        async with httpx2.AsyncClient(base_url=front.http_url, timeout=10) as http:
            yield Stand(front, ingests, http)
