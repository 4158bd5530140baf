"""Servers as companies run them, for tests: PostgreSQL with TLS, PgBouncer, Redis with TLS, a cluster, Sentinel."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from adapters.postgres.migrate import accepts_connections
from schemas.ids import new_id
from stack.child import Child, run_to_end, spawn
from stack.logins import OWNER
from stack.ports import allot
from stack.probes import answers
from stack.servers.data_dir import nobody
from stack.servers.postgres_files import environment, write_for_server
from tests.certificates import Authority

_HBA = "local all all scram-sha-256\n" + "".join(
    f"hostssl all all {address} scram-sha-256\n" for address in ("127.0.0.1/32", "::1/128")
)
"""Without TLS nobody comes in, but by the socket."""


def program(name: str) -> str:
    """Return the path of a program; skip the test without it."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed (apt-get install {name})")
    return found


@asynccontextmanager
async def running(child: Child) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a child until the block ends, once it is ready."""
    process = await spawn(child)
    try:
        async with asyncio.timeout(60):
            while not await child.ready():
                assert process.returncode is None, child.log.read_text(errors="replace")[-2000:]
                await asyncio.sleep(0.02)
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(child.stop_signal)
            await process.wait()


@dataclass
class TlsPostgres:
    """PostgreSQL that takes sessions over TLS alone, on IPv4, IPv6 and, without TLS, a socket."""

    folder: Path
    authority: Authority
    port: int
    password: str
    process: asyncio.subprocess.Process = field(init=False)

    def dsn(self, database: str, **more: str | int) -> str:
        """A connection string that verifies the server."""
        about = {"sslmode": "verify-full", "sslrootcert": str(self.authority.file), "dbname": database, **more}
        return (
            make_conninfo(host="127.0.0.1", port=self.port, user="millrace", password=self.password)
            + " "
            + (make_conninfo("", **about))
        )

    @property
    def log(self) -> str:
        return (self.folder / "postgres.log").read_text()

    @property
    def socket(self) -> str:
        """The folder of its socket."""
        return str(self.folder / "home")


def server_with_tls() -> Path:
    """Return the folder of a PostgreSQL with TLS, which the embedded one lacks; skip the test without one."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        pytest.skip("PostgreSQL with TLS is not installed (apt-get install postgresql)")
    return found[-1].parent


@asynccontextmanager
async def tls_postgres(path: Path) -> AsyncIterator[TlsPostgres]:
    """Run a PostgreSQL with TLS in a folder that any user may enter."""
    programs, user, [port] = server_with_tls(), nobody(), allot(["postgres"], {}, {}).values()
    authority, password = Authority(path), new_id()
    certificate, key = authority.certify("server")
    home = path / "home"
    home.mkdir()
    if user is not None:
        os.chown(home, *user)
    for name, text in (("password", password), ("key", key.read_text()), ("hba", _HBA)):
        write_for_server(home / name, text)
    making = [programs / "initdb", "-D", home / "data", f"--pwfile={home / 'password'}", "-U", OWNER]
    making += ["--auth=scram-sha-256", "--locale=C.UTF-8", "-E", "UTF8", "--no-sync"]
    code, output = await run_to_end(making, env=environment(), cwd="/", user=user)
    assert code == 0, output
    settings = {
        "port": str(port),
        "listen_addresses": "127.0.0.1,::1",
        "unix_socket_directories": str(home),
        "ssl": "on",
        "ssl_cert_file": str(certificate),
        "ssl_key_file": str(home / "key"),
        "hba_file": str(home / "hba"),
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    child = Child(
        name="postgres",
        kind="server",
        argv=[str(programs / "postgres"), "-D", str(home / "data"), *options],
        log=path / "postgres.log",
        ready=lambda: accepts_connections(given.dsn("postgres")),
        env=environment(),
        cwd=Path("/"),
        user=user,
        stop_signal=signal.SIGINT,
    )
    given = TlsPostgres(path, authority, port, password)
    async with running(child) as given.process:
        yield given


@asynccontextmanager
async def bouncer(path: Path, dsn: str, mode: str, *lines: str) -> AsyncIterator[str]:
    """Run PgBouncer before a PostgreSQL; yield the connection string that leads through it."""
    parts, name = conninfo_to_dict(dsn), "pgbouncer"
    argv = [program(name), "-q", str(path / f"{name}.ini")]
    [port] = allot([name], {}, {}).values()
    file = [
        "[databases]",
        f"* = host={parts['host']} port={parts['port']}",
        "[pgbouncer]",
        "listen_addr = 127.0.0.1",
        f"listen_port = {port}",
        "auth_type = plain",
        f"auth_file = {path / 'users.txt'}",
        f"pool_mode = {mode}",
        "default_pool_size = 10",
        "unix_socket_dir =",
        *lines,
    ]
    (path / f"{name}.ini").write_text("\n".join([*file, ""]))
    users = f'"{parts["user"]}" "{parts["password"]}"\n"bounded" "pw"\n'
    (path / "users.txt").write_text(users)
    log = path / f"{name}.log"
    child = Child(
        name=name,
        kind="server",
        argv=argv,
        log=log,
        ready=lambda: answers(port),
        user=nobody(),
        stop_signal=9,
        cwd=Path("/"),
    )
    async with running(child):
        yield make_conninfo(dsn, host="127.0.0.1", port=port)


@asynccontextmanager
async def redis(folder: Path, binary: str, name: str, port: int, *lines: str, mode: str = "") -> AsyncIterator[int]:
    """Run a Redis, or with ``--sentinel`` a Sentinel, that has these lines in its configuration; yield its port."""
    here = folder / name
    here.mkdir()
    base = [] if any(line.startswith(("port ", "unixsocket")) for line in lines) else [f"port {port}"]
    text = "\n".join([*base, "bind 127.0.0.1 ::1", f"dir {here}", *(() if mode else ('save ""',)), *lines, ""])
    (here / "redis.conf").write_text(text)
    child = Child(
        name=name,
        kind="server",
        argv=[binary, str(here / "redis.conf"), *([mode] if mode else [])],
        log=folder / f"{name}.log",
        ready=lambda: _is_there(here, port),
        stop_signal=9,
        cwd=here,
    )
    async with running(child):
        yield port


async def _is_there(here: Path, port: int) -> bool:
    return (here / "redis.sock").exists() or await answers(port)


async def rows(dsn: str, statement: str) -> list[tuple[object, ...]]:
    """The rows of a statement, in a session of its own."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as conn:
        found = await conn.execute(statement.encode())
        return list(await found.fetchall()) if found.description else []
