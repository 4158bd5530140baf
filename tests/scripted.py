"""An HTTP server that answers as a test tells it to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

HANG_UP = None


@dataclass
class Scripted:
    """A real HTTP server whose answers are (status, headers, body), or HANG_UP."""

    answers: list[tuple[int, dict[str, str], Any] | None] = field(default_factory=list)
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    """(request line, authorization, body)."""
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                headers = dict(line.lower().split(": ", 1) for line in head.splitlines()[1:] if line)
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                token = headers.get("authorization", "")
                self.requests.append((head.splitlines()[0], token, json.loads(body) if body else None))
                answer = self.answers.pop(0)
                if answer is HANG_UP:
                    return
                status, more, content = answer
                data = json.dumps(content).encode() if content is not None else b""
                lines = "".join(f"{name}: {value}\r\n" for name, value in more.items())
                writer.write(f"HTTP/1.1 {status} x\r\ncontent-length: {len(data)}\r\n{lines}\r\n".encode() + data)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def scripted(*answers: tuple[int, dict[str, str], Any] | None) -> AsyncIterator[Scripted]:
    """Yield a server that listens."""
    made = Scripted(list(answers))
    async with await asyncio.start_server(made.serve, "127.0.0.1", 0) as listening:
        made.port = listening.sockets[0].getsockname()[1]
        yield made
