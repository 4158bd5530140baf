"""The scripts of compose.yaml around PostgreSQL, run with a real one, and with passwords that no URL would take."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from adapters.postgres.pool import open_pool
from adapters.postgres.replica import open_replica, rows_of
from adapters.postgres.replication import is_streaming
from stack.ports import allot
from stack.processes import family
from stack.servers.data_dir import DataDir, nobody
from stack.servers.postgres import Postgres
from stack.servers.postgres_files import binaries, environment
from stack.setup import prepare_database
from tests.checkout import ROOT
from tests.compose_file import REQUIRED, load_compose
from tests.folders import open_folder
from tests.servers import start, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

PASSWORD = "p@s/s%w:o?r#d&$HOME ${X}'\"\\ü"
SERVICES: dict[str, dict[str, Any]] = load_compose(dict.fromkeys(REQUIRED, PASSWORD))["services"]


@dataclass
class Servers:
    """The primary, and where its replica is to run."""

    primary: Postgres
    folder: Path
    port: int

    def here(self, dsn: str) -> str:
        """A DSN of the file, on this machine."""
        found = psycopg.conninfo.conninfo_to_dict(dsn)
        ports = {"postgres": self.primary.port, "postgres-replica": self.port}
        return psycopg.conninfo.make_conninfo(dsn, host="127.0.0.1", port=ports[found["host"]])

    def dsn(self, service: str, name: str = "MILLRACE_PG__DSN") -> str:
        return self.here(SERVICES[service]["environment"][name])


@pytest.fixture
def servers() -> Iterator[Servers]:
    with open_folder("compose") as path:
        folder, ports = DataDir(path / "primary"), allot(["primary", "replica"], {}, {})
        folder.prepare()
        primary, hba = Postgres(folder, ports["primary"]), path / "pg_hba.conf"
        shutil.copy(ROOT / "deploy" / "compose" / "pg_hba.conf", hba)
        hba.chmod(0o644)

        async def started() -> subprocess.Popen[bytes]:
            child = await primary.prepare()
            process = await start(replace(child, argv=[*child.argv, "-c", f"hba_file={hba}"]))
            where = psycopg.conninfo.make_conninfo(primary.dsn, dbname="postgres")
            async with await psycopg.AsyncConnection.connect(where, autocommit=True) as conn:
                await conn.execute(sql.SQL("ALTER ROLE millrace PASSWORD {}").format(PASSWORD))
            return process

        process = asyncio.run(started())
        try:
            yield Servers(primary, path, ports["replica"])
        finally:
            process.send_signal(signal.SIGQUIT)
            process.wait(20)


def run_logins(servers: Servers) -> None:
    service = SERVICES["logins"]
    files = [ROOT / "deploy" / "logins.sql", ROOT / "deploy" / "compose" / "replica-login.sql"]
    mounted = dict(volume.removesuffix(":ro").split(":")[::-1] for volume in service["volumes"])
    *options, dsn = service["command"]
    arguments = [str(ROOT / mounted[option]) if option in mounted else option for option in options]
    assert [Path(argument) for argument in arguments if argument != "-f"] == files
    env = {**environment(), **service["environment"]}
    program, *rest = service["entrypoint"]
    subprocess.run([binaries() / program, *rest, *arguments, servers.here(dsn)], env=env, check=True)


def replica_of(servers: Servers) -> subprocess.Popen[bytes]:
    """The replica, by its script, as the user of the image: it may not be root."""
    service, data = SERVICES["postgres-replica"], servers.folder / "replica" / "18" / "docker"
    script = servers.folder / "replica.sh"
    shutil.copy(ROOT / "deploy" / "compose" / "replica.sh", script)
    script.chmod(0o644)
    user = nobody()
    (servers.folder / "replica").mkdir(exist_ok=True)
    if user is not None:
        os.chown(servers.folder / "replica", *user)
    primary = service["environment"]["PRIMARY"].replace("host=postgres", "host=127.0.0.1")
    env = {
        **environment(),
        **service["environment"],
        "PRIMARY": f"{primary} port={servers.primary.port}",
        "PGDATA": str(data),
        "PATH": f"{binaries()}:/usr/bin:/bin",
    }
    options = [option.replace("/etc/millrace", str(servers.folder)) for option in service["command"]]
    here = ["-c", f"port={servers.port}", "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
    return subprocess.Popen(
        ["sh", script, *options, *here],
        env=env,
        cwd="/",
        stdout=(servers.folder / "replica.log").open("ab"),
        stderr=subprocess.STDOUT,
        user=user and user[0],
        group=user and user[1],
        extra_groups=None if user is None else [],
        start_new_session=True,
    )


async def test_the_stack_of_compose_migrates_logs_in_and_reads_from_its_replica(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    assert await prepare_database(servers.dsn("setup")) is None
    run_logins(servers)
    run_logins(servers)  # as at each `docker compose up`
    running = [replica_of(servers)]
    try:
        replica_dsn = servers.dsn("ingest-1", "MILLRACE_PG__REPLICA_DSN")
        owner = psycopg.conninfo.make_conninfo(replica_dsn, user="millrace")
        await until(lambda: is_streaming(owner))
        for service in ("ingest-1", "gateway-1", "status", "audit", "operator"):
            async with await psycopg.AsyncConnection.connect(servers.dsn(service)) as conn:
                found = await conn.execute("SELECT current_user, pg_is_in_recovery()")
                login = psycopg.conninfo.conninfo_to_dict(servers.dsn(service))["user"]
                assert await found.fetchone() == (login, False)
        async with open_pool(servers.dsn("ingest-1"), size=2) as pool, open_replica(replica_dsn, pool) as replica:
            assert replica is not None

            async def on_replica() -> bool:
                [(is_standby,)] = await replica.read(partial(rows_of, "SELECT pg_is_in_recovery()", {}))
                return bool(is_standby)

            await until(on_replica, 20)
            for pid in family(running[0].pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            running[0].wait(10)
            assert not await on_replica()
            running.append(replica_of(servers))  # it goes on from where it was
            await until(on_replica, 30)
    finally:
        print((servers.folder / "replica.log").read_text()[-3000:])
        running[-1].send_signal(signal.SIGQUIT)
        running[-1].wait(20)
