"""Ask a PostgreSQL whether it takes new sessions, without a login.

Not PQping: it waits in the driver, which holds up the event loop of a process whose server does not answer.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from dataclasses import dataclass
from enum import Enum
from typing import Any

import psycopg

from adapters.postgres.conninfo import addresses, parts_of

_PROTOCOL = 3 << 16
_TLS_REQUEST = struct.pack(">ii", 8, 80877103)
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


@dataclass(frozen=True, slots=True)
class Server:
    """Server that a session is with: its address, and what the request for another session says."""

    host: str
    port: int
    user: str = "millrace"
    database: str = "postgres"
    is_encrypted: bool = False
    certificate: tuple[str, str] | None = None
    """Files of the client's certificate and key, which the server may demand."""

    @classmethod
    def of(cls, conn: psycopg.AsyncConnection[Any]) -> Server:
        """Return the server of an open session."""
        info, parts = conn.info, conn.info.get_parameters()
        files = parts.get("sslcert"), parts.get("sslkey")
        return cls(
            info.hostaddr or info.host,
            info.port,
            info.user,
            info.dbname,
            bool(conn.pgconn.ssl_in_use),
            (files[0], files[1]) if files[0] and files[1] else None,
        )

    async def ping(self, within_s: float = 2.0) -> Answer:
        """Return the server's answer; NONE when there is none in time."""
        try:
            async with asyncio.timeout(within_s):
                reply = await self._reply()
        except (OSError, TimeoutError):
            return Answer.NONE
        if not reply:
            return Answer.NONE
        return Answer.REFUSES if reply.startswith(b"E") and _REFUSED in reply else Answer.ACCEPTS

    async def _reply(self) -> bytes:
        if self.host.startswith("/"):
            reader, writer = await asyncio.open_unix_connection(f"{self.host}/.s.PGSQL.{self.port}")
        else:
            reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            if self.is_encrypted:
                writer.write(_TLS_REQUEST)
                if (answer := await reader.read(1)) != b"S":
                    return answer
                await writer.start_tls(self._tls())
            writer.write(self._request())
            return await reader.read(_MOST_BYTES)
        finally:
            writer.close()

    def _tls(self) -> ssl.SSLContext:
        """Return a context that checks nothing: no secret is sent, and nothing that is read is believed but a no."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if self.certificate is not None:
            context.load_cert_chain(*self.certificate)
        return context

    def _request(self) -> bytes:
        body = struct.pack(">i", _PROTOCOL) + f"user\0{self.user}\0database\0{self.database}\0\0".encode()
        return struct.pack(">i", len(body) + 4) + body


async def ping(dsn: str, within_s: float = 2.0) -> Answer:
    """Return the answer of the server that the connection string names; of several servers, the best one."""
    parts = parts_of(dsn)
    user, database = parts.get("user") or "millrace", parts.get("dbname") or "postgres"
    servers = [Server(host, port, user, database) for host, port in addresses(dsn)]
    found = await asyncio.gather(*(server.ping(within_s) for server in servers))
    return next((answer for answer in Answer if answer in found), Answer.NONE)
