"""Short questions to a process on this machine, bounded in time: does it listen, does it answer, and with what."""

from __future__ import annotations

import asyncio

_SOON_S = 2.0


async def open_to(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to a host and port, or to the socket at a path, which has the port 0. Raises OSError."""
    return await (asyncio.open_connection(host, port) if port else asyncio.open_unix_connection(host))


async def answers(port: int, path: str | None = None, host: str = "127.0.0.1") -> bool:
    """Return whether something listens on the port; with a path, whether a GET is answered with 200."""
    try:
        async with asyncio.timeout(_SOON_S):
            reader, writer = await open_to(host, port)
            try:
                if path is None:
                    return True
                writer.write(http_get(path))
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False


async def replies(port: int, request: bytes, within_s: float = 5.0) -> bool:
    """Return whether a server replies anything to this request.

    That it accepts a connection says nothing: the kernel does that for a process that is stopped, too.
    """
    try:
        async with asyncio.timeout(within_s):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(request)
                return bool(await reader.read(1))
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False


async def body_of(port: int, path: str) -> str | None:
    """Return the body with which a process on this machine answers a GET; None when it does not, or not with 200."""
    try:
        async with asyncio.timeout(_SOON_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(http_get(path))
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return None
    return body.decode(errors="replace") if b" 200 " in head.partition(b"\r\n")[0] else None


def http_get(path: str) -> bytes:
    """Return the bytes of a GET after which the connection closes."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
