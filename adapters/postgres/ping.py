"""Ask a PostgreSQL whether it takes new sessions, without a login.

Not PQping: it waits in the driver, which holds up the event loop of a process whose server does not answer.
"""

from __future__ import annotations

import asyncio
import struct
from enum import Enum
from itertools import zip_longest

from psycopg.conninfo import conninfo_to_dict

_PROTOCOL = 3 << 16
_REFUSED = b"C57P03\0"
"""Field of an error message with the SQLSTATE of cannot_connect_now (PostgreSQL documentation, 54.7 and 54.8)."""
_MOST_BYTES = 4096


class Answer(Enum):
    """Answer of a server to whoever wants a new session."""

    ACCEPTS = "accepts"
    """The server asks for a password, for example, or says what is wrong with the request."""
    REFUSES = "refuses"
    """The server is starting or shutting down (SQLSTATE 57P03)."""
    NONE = "none"


async def ping(dsn: str, within_s: float = 2.0) -> Answer:
    """Return the server's answer; NONE when there is none in ``within_s``. Of several servers, the best answer."""
    parts = conninfo_to_dict(dsn)
    hosts = str(parts.get("hostaddr") or parts.get("host") or "127.0.0.1").split(",")
    ports = str(parts.get("port") or 5432).split(",")
    request = _startup(str(parts.get("user") or "millrace"), str(parts.get("dbname") or "postgres"))
    addresses = zip_longest(hosts, ports[: len(hosts)], fillvalue=ports[0])
    found = await asyncio.gather(*(_ask(host, int(port or 5432), request, within_s) for host, port in addresses))
    return next((answer for answer in Answer if answer in found), Answer.NONE)


def _startup(user: str, database: str) -> bytes:
    body = struct.pack(">i", _PROTOCOL) + f"user\0{user}\0database\0{database}\0\0".encode()
    return struct.pack(">i", len(body) + 4) + body


async def _ask(host: str, port: int, request: bytes, within_s: float) -> Answer:
    try:
        async with asyncio.timeout(within_s):
            if host.startswith("/"):
                reader, writer = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
            else:
                reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(request)
                reply = await reader.read(_MOST_BYTES)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return Answer.NONE
    if not reply:
        return Answer.NONE
    return Answer.REFUSES if reply.startswith(b"E") and _REFUSED in reply else Answer.ACCEPTS
