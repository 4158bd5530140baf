"""Ask a PostgreSQL whether it takes new sessions, without a login."""

from __future__ import annotations

import asyncio
from enum import Enum

from psycopg import pq
from psycopg.conninfo import make_conninfo


class Answer(Enum):
    """Answer of a server to whoever wants a new session."""

    ACCEPTS = "accepts"
    REFUSES = "refuses"
    """It is starting or shutting down (SQLSTATE 57P03)."""
    NONE = "none"


async def ping(dsn: str, within_s: int = 2) -> Answer:
    """Return the server's answer; NONE when there is none in ``within_s`` (2 or more), or the DSN is malformed."""
    where = make_conninfo(dsn, connect_timeout=within_s).encode()
    found = await asyncio.to_thread(pq.PGconn.ping, where)
    if found == pq.Ping.OK:
        return Answer.ACCEPTS
    return Answer.REFUSES if found == pq.Ping.REJECT else Answer.NONE
