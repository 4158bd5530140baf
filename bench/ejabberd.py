"""Latency and speed beside ejabberd: the same room, sockets, rate and client, each message stored in PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import urlsplit

from adapters.postgres.migrate import ensure_database
from adapters.postgres.pool import connection, open_pool
from bench.clients import members, site_of
from bench.latency import LEAST_S, RATE, SHAPE
from bench.pairs import Pair, Result, in_rotation
from bench.process import HERE, BenchError, Load, load, running
from bench.stack import UNLIMITED, open_stack, until_idle
from bench.world import World, open_folder
from schemas.ids import new_id
from stack.ports import allot
from stack.probes import answers

_USER, _LOGIN, _DATABASE = "ejabberd", "ejabberd", "ejabberd"
_PROGRAM = shutil.which("ejabberdctl", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
_SCHEMAS = ("usr/share/ejabberd/sql/pg.sql", "usr/lib/*/ejabberd*/priv/sql/pg.sql", "usr/share/doc/ejabberd/**/pg.sql")
_READY_S = 60.0
_INCLUDED = (
    f"{SHAPE.sockets} sockets in one room; both store a message in PostgreSQL before its sender is answered, ours by "
    "the commit, theirs when the room's reflection comes back. Theirs keeps an archive, and no receipts, search, "
    "notifications or order that survives it. The same client in C reads both."
)


async def measure(world: World, pairs: int, seconds: float) -> list[Result]:
    """Measure the delay until the last socket has a message, and speed. Raises BenchError without ejabberd."""
    schema = _installed()
    paced, closed = f"paced {max(seconds, LEAST_S)} {RATE}", f"closed {seconds} 16"
    async with (
        open_stack(**UNLIMITED) as stack,
        _ejabberd(world, schema) as port,
        members(site_of(stack), SHAPE) as ours,
        _occupants(port) as theirs,
    ):
        await ours.do(f"closed {world.warm_s} 16")
        await theirs.do("closed 5 16")
        await until_idle(stack)
        slow = await in_rotation(pairs, [partial(each.do, paced) for each in (ours, theirs)])
        fast = await in_rotation(pairs, [partial(each.do, closed) for each in (ours, theirs)])
    latency = partial(_result, slow, unit="ms", target=1.5, wanted="at most")
    return [
        latency("ejabberd-p50", f"Until the last of {SHAPE.sockets} has a message, p50", _field("last_p50_ms")),
        latency("ejabberd-p99", f"Until the last of {SHAPE.sockets} has a message, p99", _field("last_p99_ms")),
        _result(
            fast,
            "ejabberd-rate",
            f"Messages a second to {SHAPE.sockets} sockets, 16 on their way",
            lambda report: float(report["messages"] / report["seconds"]),
            unit="messages a second",
            target=2.5,
            wanted="at least",
        ),
    ]


def _result(
    rounds: list[tuple[Any, float]], name: str, title: str, read: Callable[[dict[str, Any]], float], **about: Any
) -> Result:
    accepted = [report["post_p50_ms"] for (_, report), _ in rounds]
    return Result(
        name=name,
        title=title,
        reference="ejabberd, MUC and MAM on PostgreSQL",
        included=_INCLUDED,
        pairs=[Pair(read(ours), read(theirs), load_) for (ours, theirs), load_ in rounds],
        more={"post_p50_ms": [ours["post_p50_ms"] for (ours, _), _ in rounds], "their_accepted_p50_ms": accepted},
        **about,
    )


def _field(name: str) -> Callable[[dict[str, Any]], float]:
    return lambda report: float(report[name])


def _installed() -> bytes:
    """Return the SQL of ejabberd's tables. Raises BenchError with what is missing."""
    found = [path for pattern in _SCHEMAS for path in Path("/").glob(pattern)]
    if _PROGRAM is None or not found:
        raise BenchError("ejabberd is not installed; on Debian: apt-get install ejabberd erlang-p1-pgsql")
    if os.getuid() != 0:
        raise BenchError("ejabberd must be started as root, which makes it run under its own user")
    return found[0].read_bytes()


@asynccontextmanager
async def _ejabberd(world: World, schema: bytes) -> AsyncIterator[int]:
    """Run ejabberd while the block runs; yield its port."""
    await _make_database(world, schema)
    ports, user = allot(["ws", "epmd", "nodes"], {}, {}), pwd.getpwnam(_USER)
    with open_folder() as folder:
        text = Template((HERE / "peers" / "ejabberd" / "ejabberd.yml").read_text()).substitute(
            port=ports["ws"], pg_port=world.postgres.port, database=_DATABASE, login=_LOGIN
        )
        (folder / "ejabberd.yml").write_text(text)
        for path in (folder, folder / "log", folder / "spool"):
            path.mkdir(exist_ok=True)
            os.chown(path, user.pw_uid, user.pw_gid)
        places: list[str | Path] = ["--config-dir", folder, "--logs", folder / "log", "--spool", folder / "spool"]
        argv: list[str | Path] = [_PROGRAM or "", *places, "--node", f"bench{ports['ws']}@localhost", "foreground"]
        env = {
            "EJABBERD_CONFIG_PATH": str(folder / "ejabberd.yml"),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(ports["epmd"]),
            "ERL_ZFLAGS": _only_here(ports["nodes"]),
            "HOME": str(folder),
        }
        guarded: list[str | Path] = [sys.executable, "-m", "bench.guard", _USER, *argv]
        async with running("ejabberd", guarded, env=env) as process:
            try:
                await _until_ready(ports["ws"], folder)
                yield ports["ws"]
            finally:
                if process.process.returncode is None:
                    process.process.terminate()  # not killed: it has to end what it guards
                async with asyncio.timeout(_READY_S):
                    await process.process.wait()


def _only_here(port: int) -> str:
    """Return what makes a node of Erlang listen for others on this machine alone."""
    options = {"use_interface": "{127,0,0,1}", "listen_min": port, "listen_max": port}
    return " ".join(f"-kernel inet_dist_{name} {value}" for name, value in options.items())


async def _until_ready(port: int, folder: Path) -> None:
    clock = asyncio.get_running_loop().time
    end = clock() + _READY_S
    while not await answers(port):
        if clock() > end:
            log = folder / "log" / "ejabberd.log"
            tail = log.read_text(errors="replace")[-600:] if log.exists() else "it has no log"
            raise BenchError(f"ejabberd does not answer: {tail}")
        await asyncio.sleep(0.2)


async def _make_database(world: World, schema: bytes) -> None:
    """Create a database and a login that needs no password: ejabberd's driver knows no SCRAM in every version."""
    dsn = urlsplit(world.postgres.dsn)._replace(path=f"/{_DATABASE}").geturl()
    await asyncio.to_thread(ensure_database, dsn)
    async with open_pool(dsn, size=1, wait_s=30) as pool, connection(pool) as conn:
        row = await (await conn.execute("SHOW hba_file")).fetchone()
        assert row is not None
        if _let_in(Path(row[0])):
            await conn.execute(f"CREATE ROLE {_LOGIN} LOGIN".encode())
            await conn.execute(f"GRANT ALL ON SCHEMA public TO {_LOGIN}".encode())
            await conn.execute(schema)
            await conn.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {_LOGIN}".encode())
            await conn.execute(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {_LOGIN}".encode())
        await conn.execute("SELECT pg_reload_conf()")


def _let_in(rules: Path) -> bool:
    """Add a rule for the login; return False when it was there before."""
    rule, text = f"host {_DATABASE} {_LOGIN} 127.0.0.1/32 trust\n", rules.read_text()
    if rule not in text:
        rules.write_text(rule + text)
    return rule not in text


@asynccontextmanager
async def _occupants(port: int) -> AsyncIterator[Load]:
    """Yield clients in one room: the first makes it and sends, the others receive."""
    env = {
        "WS_PATH": "/ws",
        "WS_XMPP": "1",
        "WS_ROOM": f"r{new_id()}",
        "WS_MARKER": "~~",
        "WS_SIZE": "230",
        "PUBLISH": "xmpp",
    }
    async with load(**env) as clients:
        await clients.do(f"open 1 1 {port} -1")
        await clients.do(f"open {SHAPE.sockets} 4 {port} -1")
        yield clients
