"""``millrace up``: the whole pipeline on this machine, in the foreground, until it is told to stop."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ops import stack
from ops.running import STATE
from ops.setup import apply_topics, migrate_database
from ops.status import look
from runtime.stack.child import end_with_parent
from runtime.stack.folder import Folder
from runtime.stack.ports import allot
from runtime.stack.supervisor import Running, Supervisor

_PORTS = "ports.json"


@dataclass(slots=True)
class Up:
    """One run. ``console`` is for people; what programs read goes to standard output."""

    folder: Folder
    ports: Mapping[str, int]
    servers: stack.Servers
    console: Console
    servers_only: bool
    began: float
    supervisor: Supervisor = field(init=False)
    ready: bool = False
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def __post_init__(self) -> None:
        self.supervisor = Supervisor(changed=self._note_change, say=self.say)

    async def start(self) -> None:
        """Return when everything is ready. Raises StackError, OperatorError."""
        async with asyncio.TaskGroup() as group:
            # The broker takes longest; all that can be done without it is done meanwhile.
            group.create_task(self._broker())
            group.create_task(self._rest())
        self.ready = True
        self.write_state()

    async def _start_servers(self, *names: str) -> None:
        makes = [make for name, make in self.servers.embedded.items() if name in names]
        await self.supervisor.start(await asyncio.gather(*(make() for make in makes)))

    async def _broker(self) -> None:
        await self._start_servers("kafka")
        done = await apply_topics(self.servers.kafka, 1 if self.servers.is_broker_alone else None)
        self.say(f"Kafka is ready{f', {len(done)} topics brought up to date' if done else ''}")

    async def _rest(self) -> None:
        await self._start_servers("postgres", "valkey")
        await migrate_database(self.servers.pg)
        self.say("PostgreSQL and Redis are ready, the schema is current")
        if not self.servers_only:
            await self.supervisor.start(stack.apps(self.folder, self.ports, self.servers))
            self.say("ingest, gateway, the five stages and the audit are ready")

    def say(self, text: str) -> None:
        """Progress."""
        self.console.print(
            f"[dim]{time.monotonic() - self.began:5.1f} s[/dim]  {escape(text)}", highlight=False, soft_wrap=True
        )

    @property
    def urls(self) -> dict[str, str]:
        """Where clients go."""
        return {"http": f"http://127.0.0.1:{self.ports['http']}", "ws": f"ws://127.0.0.1:{self.ports['ws']}/ws"}

    def write_state(self) -> None:
        """For all other commands. Raises OSError."""
        given = [
            {"name": g.name, "kind": "given", "pid": None, "host": g.host, "port": g.port, "opsPort": None, "log": None}
            for g in self.servers.given
        ]
        self.folder.write(
            STATE,
            {
                "pid": os.getpid(),
                "started": self.started,
                "ready": self.ready,
                "urls": self.urls,
                "servers": {"pg": self.servers.pg, "kafka": self.servers.kafka, "redis": self.servers.redis},
                "processes": [*given, *(_entry(running) for running in self.supervisor.children)],
            },
        )

    def _note_change(self) -> None:
        try:
            self.write_state()
        except OSError as exc:  # a full disk must not end the supervision
            self.say(f"the state cannot be written: {exc.strerror}")


def _entry(running: Running) -> dict[str, Any]:
    child = running.child
    return {
        "name": child.name,
        "kind": child.kind,
        "pid": running.pid,
        "port": child.port,
        "opsPort": child.ops_port,
        "log": str(child.log),
        "restarts": running.restarts,
    }


async def run_up(
    folder: Folder, *, wanted: Mapping[str, int], servers_only: bool, with_parent: bool, as_json: bool
) -> None:
    """Run until SIGINT or SIGTERM. Raises StackError, OperatorError; whatever was started has ended then."""
    parent = os.getppid() if with_parent else None
    if parent is not None:
        end_with_parent(parent, signal.SIGTERM)
    began, console = time.monotonic(), Console(stderr=True)
    given = await stack.find_given()
    folder.prepare()
    with folder.locked():
        folder.write(STATE, {})  # that of a run that was killed would mislead
        ports = allot(stack.PORTS, folder.read(_PORTS), wanted)
        folder.write(_PORTS, ports)
        servers = stack.servers(
            folder, ports, given, lambda text: console.print(f"         {text}", highlight=False, soft_wrap=True)
        )
        up = Up(folder, ports, servers, console, servers_only, began)
        await _supervise(up, parent, as_json)


async def _supervise(up: Up, parent: int | None, as_json: bool) -> None:
    told = asyncio.Event()
    _on_signals(up, told)
    watching = asyncio.create_task(_watch(parent, told))
    up.write_state()
    starting = asyncio.create_task(up.start())
    stopping = asyncio.create_task(told.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            await _announce(up, as_json)
            await stopping
        up.console.print("stopping …", highlight=False)
    except BaseExceptionGroup as exc:
        raise _first(exc) from exc
    finally:
        for task in (starting, stopping, watching):
            task.cancel()
        with suppress(asyncio.CancelledError, BaseExceptionGroup, Exception):
            await starting
        up.ready = False
        await up.supervisor.stop()
        up.folder.write(STATE, {})
    up.console.print(f"everything has ended; the data stays in {up.folder.path}", highlight=False, soft_wrap=True)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


def _on_signals(up: Up, told: asyncio.Event) -> None:
    def stop(number: int) -> None:
        # Only a second Ctrl-C: a closed terminal sends SIGHUP, and its shell's end SIGTERM, at once.
        if told.is_set() and number == signal.SIGINT:
            up.supervisor.kill()
        told.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop, number)


async def _watch(parent: int | None, told: asyncio.Event) -> None:
    """Besides the kernel's signal, which may have come before anyone listened."""
    if parent is None:
        return
    while os.getppid() == parent:  # noqa: ASYNC110 - nothing else tells
        await asyncio.sleep(0.5)
    told.set()


async def _announce(up: Up, as_json: bool) -> None:
    if as_json:
        print(json.dumps(await look(up.folder)), flush=True)
        return
    _table(up)


def _table(up: Up) -> None:
    out = Console()
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("what", "where", "log"):
        table.add_column(column, overflow="fold")
    where = {"ingest": up.urls["http"], "gateway": up.urls["ws"], "kafka": up.servers.kafka}
    where |= {name: f"127.0.0.1:{up.ports[name]}" for name in ("postgres", "valkey")}
    for given in up.servers.given:
        table.add_row(given.name, f"{given.host}:{given.port}", "given by URL")
    for running in up.supervisor.children:
        log = running.child.log
        table.add_row(running.child.name, where.get(running.child.name, ""), _short(str(log)))
    out.print()
    out.print(table)
    out.print(
        f"\nready after {time.monotonic() - up.began:.1f} s. Ctrl-C ends everything; the data stays.", highlight=False
    )
    if not up.servers_only:
        _next(out, up)


def _short(path: str) -> str:
    here = f"{Path.cwd()}{os.sep}"
    return path.removeprefix(here)


def _next(out: Console, up: Up) -> None:
    from runtime.auth import issue

    secret = up.folder.secret("jwt")
    out.print("\ntwo tokens, valid for a day:", highlight=False)
    for user in ("alice", "bob"):
        print(f"  {user:6}{issue(secret, user, ttl_s=86_400)}")
    command = _short(str(Path(sys.executable).with_name("millrace")))
    extra = "" if up.folder.path.name == ".millrace" else f" --data {_short(str(up.folder.path))}"
    out.print("\ntry next, in a second terminal:", highlight=False)
    for line in ("demo", "status", "topics list", "agents list", "logs gateway -f"):
        print(f"  {command} {line}{extra}")
    print(f'  curl {up.urls["http"]}/conversations -H "Authorization: Bearer $({command} token alice{extra})"')
