"""``millrace up``: the whole pipeline on this machine, in the foreground, until it is told to stop."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ops import stack
from ops.running import STATE
from ops.setup import apply_topics, migrate_database
from runtime.stack.child import Child, end_with_parent
from runtime.stack.folder import Folder
from runtime.stack.ports import allot
from runtime.stack.supervisor import Supervisor

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

    def __post_init__(self) -> None:
        self.supervisor = Supervisor(changed=self.write_state)

    async def start(self) -> None:
        """Return when everything is ready. Raises StackError, OperatorError."""
        broker = [child for child in self.servers.children if child.name == "kafka"]
        others = [child for child in self.servers.children if child.name != "kafka"]
        async with asyncio.TaskGroup() as group:
            # The broker takes longest; all that can be done without it is done meanwhile.
            group.create_task(self._broker(broker))
            group.create_task(self._rest(others))
        self.ready = True
        self.write_state()

    async def _broker(self, children: Sequence[Child]) -> None:
        await self.supervisor.start(children)
        done = await apply_topics(self.servers.kafka, 1 if self.servers.embedded_kafka else None)
        self.say(f"Kafka is ready{f', {len(done)} topics brought up to date' if done else ''}")

    async def _rest(self, children: Sequence[Child]) -> None:
        await self.supervisor.start(children)
        await migrate_database(self.servers.pg)
        self.say("PostgreSQL and Redis are ready, the schema is current")
        if not self.servers_only:
            await self.supervisor.start(stack.apps(self.folder, self.ports, self.servers))
            self.say("ingest, gateway and the five stages are ready")

    def say(self, text: str) -> None:
        """Progress."""
        self.console.print(f"[dim]{time.monotonic() - self.began:5.1f} s[/dim]  {text}", highlight=False)

    @property
    def urls(self) -> dict[str, str]:
        """Where clients go."""
        return {"http": f"http://127.0.0.1:{self.ports['http']}", "ws": f"ws://127.0.0.1:{self.ports['ws']}/ws"}

    def write_state(self) -> None:
        """For all other commands."""
        self.folder.write(
            STATE,
            {
                "pid": os.getpid(),
                "ready": self.ready,
                "urls": self.urls,
                "servers": {"pg": self.servers.pg, "kafka": self.servers.kafka, "redis": self.servers.redis},
                "processes": [
                    {
                        "name": r.child.name,
                        "kind": r.child.kind,
                        "pid": r.pid,
                        "opsPort": r.child.ops_port,
                        "log": str(r.child.log),
                        "restarts": r.restarts,
                    }
                    for r in self.supervisor.children
                ],
            },
        )


async def run_up(
    folder: Folder, *, wanted: Mapping[str, int], servers_only: bool, with_parent: bool, as_json: bool
) -> None:
    """Run until SIGINT or SIGTERM. Raises StackError, OperatorError; whatever was started has ended then."""
    if with_parent:
        end_with_parent(os.getppid(), signal.SIGTERM)
    began, console = time.monotonic(), Console(stderr=True)
    await stack.check_given()
    folder.prepare()
    with folder.locked():
        ports = allot(stack.PORTS, folder.read(_PORTS), wanted)
        folder.write(_PORTS, ports)
        servers = stack.servers(folder, ports, lambda text: console.print(f"         {text}", highlight=False))
        up = Up(folder, ports, servers, console, servers_only, began)
        await _supervise(up, as_json)


async def _supervise(up: Up, as_json: bool) -> None:
    told = asyncio.Event()
    _on_signals(up, told)
    starting = asyncio.create_task(up.start())
    stopping = asyncio.create_task(told.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            _announce(up, as_json)
            await stopping
        up.console.print("stopping …", highlight=False)
    except BaseExceptionGroup as exc:
        raise _first(exc) from exc
    finally:
        starting.cancel()
        stopping.cancel()
        with suppress(asyncio.CancelledError, BaseExceptionGroup, Exception):
            await starting
        up.ready = False
        await up.supervisor.stop()
        up.folder.write(STATE, {})
    up.console.print("everything has ended; the data stays in", str(up.folder.path), highlight=False)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


def _on_signals(up: Up, told: asyncio.Event) -> None:
    def stop() -> None:
        if told.is_set():
            up.supervisor.kill()
        told.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop)


def _announce(up: Up, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_summary(up)), flush=True)
        return
    _table(up)


def _summary(up: Up) -> dict[str, Any]:
    state = up.folder.read(STATE)
    return {"state": "ready", "urls": up.urls, "processes": state["processes"], "dataDir": str(up.folder.path)}


def _table(up: Up) -> None:
    out = Console()
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("what", "where", "log"):
        table.add_column(column, overflow="fold")
    where = {"ingest": up.urls["http"], "gateway": up.urls["ws"], "kafka": up.servers.kafka}
    where["postgres"] = f"127.0.0.1:{up.ports['postgres']}"
    where["valkey"] = f"127.0.0.1:{up.ports['valkey']}"
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
