"""A primary and a replica of their own, and nodes that read from them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial

import psycopg

from adapters.postgres.intake import PostgresIntake
from adapters.postgres.messages import PostgresMessages
from adapters.postgres.pool import Pool
from adapters.postgres.replica import Replica, rows_of
from stack.child import Child
from stack.ports import allot
from stack.processes import family
from stack.servers.data_dir import DataDir
from stack.servers.postgres import Postgres
from stack.servers.replica import Replica as ReplicaServer
from stack.setup import prepare_database
from tests import make
from tests.folders import open_folder
from tests.servers import start


@dataclass
class Pair:
    """A primary and its replica, with the logins of a stack."""

    primary: Postgres
    server: ReplicaServer
    child: Child
    process: subprocess.Popen[bytes]

    @property
    def replica(self) -> Postgres:
        return Postgres(self.primary.folder, self.server.port)

    def on_replica(self, statement: str) -> list[tuple]:
        with psycopg.connect(self.replica.dsn, autocommit=True) as conn:
            while True:
                with suppress(psycopg.errors.SerializationFailure):  # the replay cancels ours, too
                    cursor = conn.execute(statement)
                    return cursor.fetchall() if cursor.description else []

    def on_primary(self, statement: str) -> None:
        with psycopg.connect(self.primary.dsn, autocommit=True) as conn:
            conn.execute(statement)

    def signal(self, number: int) -> None:
        for pid in family(self.process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        self.on_replica("SELECT pg_wal_replay_pause()")
        try:
            yield
        finally:
            self.on_replica("SELECT pg_wal_replay_resume()")

    @contextmanager
    def frozen(self) -> Iterator[None]:
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)


@contextmanager
def running_pair() -> Iterator[Pair]:
    """Run a primary and a replica that follows it."""
    with open_folder("replica") as path:
        folder, ports = DataDir(path), allot(["primary", "replica"], {}, {})
        folder.prepare()
        primary = Postgres(folder, ports["primary"])
        running: list[subprocess.Popen[bytes]] = []

        async def both() -> Pair:
            running.append(await start(await primary.prepare()))
            await prepare_database(primary.dsn)
            await primary.make_logins()
            server = ReplicaServer(primary, ports["replica"])
            copy = await server.prepare()
            # A read that stands in the way of the replay is cancelled at once.
            copy = replace(copy, argv=[*copy.argv, "-c", "max_standby_streaming_delay=0"])
            running.append(await start(copy))
            return Pair(primary, server, copy, running[-1])

        try:
            made = asyncio.run(both())
            yield made
            running.append(made.process)
        finally:
            for process in running:
                process.send_signal(signal.SIGQUIT)  # "immediate"
            for process in running:
                process.wait(20)


@dataclass
class Node:
    """A process that reads, with the rights of an ingest."""

    pool: Pool
    replica: Replica

    @property
    def messages(self) -> PostgresMessages:
        return PostgresMessages(self.pool, self.replica)

    async def source(self) -> str:
        """Return which server answers a read now."""
        [(is_standby,)] = await self.replica.read(partial(rows_of, "SELECT pg_is_in_recovery()", {}))
        return "replica" if is_standby else "primary"

    async def reads_from(self, server: str) -> None:
        """Return once reads are answered by this server."""
        async with asyncio.timeout(20):
            while await self.source() != server:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


class World:
    """Two nodes on a pair, and a conversation to write to."""

    def __init__(self, pair: Pair, nodes: list[Node], room: str) -> None:
        self.pair, self.nodes, self.room = pair, nodes, room

    async def say(self, content: str) -> str:
        [outcome] = await PostgresIntake(self.nodes[0].pool).accept([make.draft(content, conversationId=self.room)])
        return outcome.message.message_id

    async def newest(self, node: Node) -> str:
        [message] = await node.messages.page(self.room, None, None, 1)
        return message.message_id
