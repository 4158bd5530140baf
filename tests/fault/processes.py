"""Processes of ours beside those of the stack, for what needs precise control."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import psycopg

from stack.child import end_with_parent
from stack.ports import allot
from stack.processes import family, lives
from stack.running import STATE, RunningStack
from stack.servers.data_dir import DataDir
from verify.fault_proxy import FaultProxy
from verify.faults.process import send

ROOT = Path(__file__).parents[2]
RELAY_LOCKS = 0x4F555442


def through(url: str, proxy: FaultProxy | None) -> str:
    """The same URL by way of a proxy, which learns where to go from it."""
    if proxy is None:
        return url
    parts = urlsplit(url)
    proxy.upstream = parts.port
    return parts._replace(netloc=parts.netloc.replace(f":{parts.port}", f":{proxy.port}")).geturl()


@dataclass
class Extra:
    """One more ``ingest``, ``gateway``, or stage, on the stack's servers. It ends with this process."""

    stack: RunningStack
    folder: Path
    name: str
    pg: FaultProxy | None = None
    redis: FaultProxy | None = None
    node: str = "extra"
    port: int = 0
    ops_port: int = 0
    env: dict[str, str] = field(default_factory=dict)
    wrap: list[str] = field(default_factory=list)
    """A module that starts the module."""
    process: subprocess.Popen[bytes] | None = None

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def log(self) -> str:
        return (self.folder / f"{self.node}.log").read_text()

    def start(self) -> None:
        """Begin a life; the ports stay the same in all of them."""
        if not self.port:
            ports = allot(["port", "ops"], {}, {})
            self.port, self.ops_port = ports["port"], ports["ops"]
        module = [self.name] if self.name in ("ingest", "gateway") else ["streams", self.name]
        here, parent = self.folder / f"{self.node}.log", os.getpid()
        with here.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self.wrap, *module],
                env={**os.environ, **self._environment(), **self.env},
                cwd=ROOT,
                stdout=log,
                stderr=log,
                preexec_fn=lambda: end_with_parent(parent),
            )

    def _environment(self) -> dict[str, str]:
        return {
            "MILLRACE_NODE": self.node,
            "MILLRACE_PG__DSN": through(self.stack.pg_dsn, self.pg),
            "MILLRACE_KAFKA__BOOTSTRAP": self.stack.kafka.bootstrap,
            "MILLRACE_REDIS__URL": through(self.stack.redis_url, self.redis),
            "MILLRACE_AUTH__SECRET": self.stack.jwt_secret,
            "MILLRACE_HTTP__PORT": str(self.port),
            "MILLRACE_WS__PORT": str(self.port),
            "MILLRACE_OPS__PORT": str(self.ops_port),
            "MILLRACE_DATA_DIR": str(self.stack.data if self.name in ("ingest", "media") else self.folder),
            "PYTHONUNBUFFERED": "1",
        }

    async def ready(self, seconds: float = 60) -> None:
        """Wait until it serves."""
        async with httpx2.AsyncClient(timeout=2) as client, asyncio.timeout(seconds):
            while True:
                assert self.process is not None
                assert self.process.poll() is None, self.log[-2000:]
                with suppress(httpx2.TransportError):
                    if (await client.get(f"http://127.0.0.1:{self.ops_port}/readyz")).status_code == 200:
                        return
                await asyncio.sleep(0.05)

    async def metric(self, name: str) -> float:
        """A number without labels, as its operator port shows it."""
        async with httpx2.AsyncClient(timeout=5) as client:
            shown = (await client.get(f"http://127.0.0.1:{self.ops_port}/metrics")).text
        return next(float(line.split()[1]) for line in shown.splitlines() if line.startswith(f"{name} "))

    def signal(self, number: int) -> None:
        send([self.pid], number)

    async def ended(self, seconds: float) -> int:
        """Its exit code, once it has ended."""
        process = self.process
        assert process is not None
        async with asyncio.timeout(seconds):
            while process.poll() is None:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert process.returncode is not None
        return process.returncode

    def end(self) -> None:
        """SIGTERM, so that it leaves its group at once; it need not obey."""
        if self.process is not None and self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(25)
        self.kill()

    def kill(self) -> None:
        """``kill -9``, children and all."""
        if self.process is not None and self.process.poll() is None:
            send(family(self.pid), signal.SIGKILL)
            self.process.wait()


def rss_mb(pid: int) -> float:
    """The memory that a process has now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def pid_of(stack: RunningStack, name: str) -> int | None:
    """A process of the stack, as it is now."""
    found = DataDir(stack.data).read(STATE)["processes"]
    return next(process["pid"] for process in found if process["name"] == name)


def cluster_of(stack: RunningStack, name: str) -> Path:
    """The folder of a PostgreSQL of the stack."""
    argv = Path(f"/proc/{pid_of(stack, name)}/cmdline").read_text().split("\0")
    return Path(argv[argv.index("-D") + 1])


def names_of(stack: RunningStack) -> list[str]:
    """All processes of the stack."""
    return [process["name"] for process in DataDir(stack.data).read(STATE)["processes"]]


def lives_of(stack: RunningStack, name: str) -> int:
    """How often its supervisor has started it again."""
    found = DataDir(stack.data).read(STATE)["processes"]
    return next(int(process["restarts"]) for process in found if process["name"] == name)


async def restarted(stack: RunningStack, name: str, before: int | None, seconds: float = 30) -> None:
    """Wait until its supervisor has started it again."""
    async with asyncio.timeout(seconds):
        while (now := pid_of(stack, name)) is None or now == before:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@contextmanager
def stopped(stack: RunningStack, name: str) -> Iterator[None]:
    """SIGSTOP of one process of the stack, with its children, while the block runs."""
    pid = pid_of(stack, name)
    assert pid is not None
    pids = family(pid)
    send(pids, signal.SIGSTOP)
    try:
        yield
    finally:
        send(pids, signal.SIGCONT)
    assert lives(pid)


def relay_owners(conn: psycopg.Connection) -> set[int]:
    """The server processes that hold locks on shards of the outbox."""
    query = "SELECT DISTINCT pid FROM pg_locks WHERE locktype = 'advisory' AND classid::bigint = %s"
    return {row[0] for row in conn.execute(query, (RELAY_LOCKS,))}


def evict_relays(stack: RunningStack) -> None:
    """Cut the connections that hold locks on shards."""
    with psycopg.connect(stack.pg_dsn, autocommit=True) as conn:
        for pid in relay_owners(conn):
            conn.execute("SELECT pg_terminate_backend(%s)", (pid,))


async def nothing_owed(stack: RunningStack) -> None:
    """Wait until everything in the outbox is marked as published."""
    async with await psycopg.AsyncConnection.connect(stack.pg_dsn, autocommit=True) as conn, asyncio.timeout(15):
        while await (await conn.execute("SELECT 1 FROM outbox WHERE published_at IS NULL LIMIT 1")).fetchone():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def all_shards_owned(stack: RunningStack, *, but_not_by: frozenset[int] = frozenset()) -> frozenset[int]:
    """Wait until each shard has an owner; by which server processes."""
    from schemas.ids import OUTBOX_SHARDS

    query = "SELECT objid, pid FROM pg_locks WHERE locktype = 'advisory' AND classid::bigint = %s AND granted"
    async with await psycopg.AsyncConnection.connect(stack.pg_dsn, autocommit=True) as conn, asyncio.timeout(15):
        while True:
            rows = await (await conn.execute(query, (RELAY_LOCKS,))).fetchall()
            owners = frozenset(pid for _, pid in rows)
            if len({shard for shard, _ in rows}) == OUTBOX_SHARDS and not owners & but_not_by:
                return owners
            await asyncio.sleep(0.05)
