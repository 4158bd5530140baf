"""``millrace up``: the whole pipeline on this machine, in the foreground, until it is stopped."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from stack import composition
from stack.banner import show_left_out, show_next, show_ready
from stack.child import end_with_parent
from stack.errors import OperatorError
from stack.given import find_given, kafka_of
from stack.ports import allot
from stack.progress import Progress, print_line
from stack.running import PORTS, STATE
from stack.servers.data_dir import DataDir
from stack.servers.haproxy import find_haproxy
from stack.setup import apply_topics, fitting_replication, prepare_database
from stack.status import inspect
from stack.supervisor import Running, Supervisor
from stack.tokens import Signer, signs_its_own
from stack.topology import Topology, cluster, detours, processes_named, single

SETTLE_S = 15.0
_LOOK_S = 0.2


@dataclass(slots=True)
class Up:
    """A run of the stack. ``progress`` is for people; programs read standard output."""

    plan: composition.Plan
    servers: composition.Servers
    progress: Progress
    supervisor: Supervisor = field(init=False)
    has_broker: bool = False
    ready: bool = False
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def __post_init__(self) -> None:
        self.supervisor = Supervisor(self._note_change, self.progress, lambda: not self.has_broker)

    async def start(self) -> None:
        """Return when everything is ready. Raises StackError, OperatorError."""
        async with asyncio.TaskGroup() as group:
            # The brokers take longest; all that can be done without them is done meanwhile.
            group.create_task(self._broker())
            group.create_task(self._rest())
        self.ready = True
        self.write_state()

    async def _run(self, prepares: Sequence[composition.Prepare]) -> None:
        await self.supervisor.start(await asyncio.gather(*(prepare() for prepare in prepares)))

    async def _broker(self) -> None:
        await self._run(self.servers.brokers)
        names = self.plan.topology.brokers
        with self.progress.task("topics", done="as topics.yaml declares them"):
            kafka, is_given = kafka_of(self.servers.addresses.kafka), not self.servers.brokers
            fitting = await fitting_replication(kafka) if is_given else None
            await apply_topics(
                kafka,
                1 if self.servers.is_broker_alone else fitting,
                lambda: [r.pid for r in self.supervisor.children if r.child.name in names and r.pid],
            )
        self.has_broker = True

    async def _rest(self) -> None:
        await asyncio.gather(self._run(self.servers.database), self._cache())
        with self.progress.task("database", done="schema is current"):
            trouble = await prepare_database(self.servers.addresses.pg)
            if self.servers.make_logins is not None:
                await self.servers.make_logins()
        if trouble:
            self.progress.say(trouble)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._run(self.servers.replica))
            group.create_task(self._apps())

    async def _cache(self) -> None:
        await self._run(self.servers.caches)
        if self.servers.join is not None:
            with self.progress.task("Redis Cluster", done="formed"):
                await self.servers.join()

    async def _apps(self) -> None:
        await self.supervisor.start(composition.apps(self.plan, self.servers.app_addresses))
        if self.plan.topology.is_proxied:
            await self._run([composition.proxy(self.plan).prepare])

    @property
    def urls(self) -> dict[str, str]:
        """The public addresses of the stack, by protocol."""
        ports = self.plan.ports
        return {"http": f"http://127.0.0.1:{ports['http']}", "ws": f"ws://127.0.0.1:{ports['ws']}/ws"}

    @property
    def _auth(self) -> dict[str, Any]:
        signer = Signer.of("", os.environ)
        return {"signsItsOwn": signs_its_own(os.environ), "issuer": signer.issuer, "audience": signer.audience}

    def write_state(self) -> None:
        """Write the state, which all other commands read. Raises OSError."""
        given = [
            {"name": g.name, "kind": "given", "pid": None, "host": g.host, "port": g.port, "opsPort": None, "log": None}
            for g in self.servers.given
        ]
        addresses = self.servers.addresses
        self.plan.folder.write(
            STATE,
            {
                "kind": self.plan.topology.kind,
                "pid": os.getpid(),
                "started": self.started,
                "ready": self.ready,
                "urls": self.urls,
                "servers": {"pg": addresses.pg, "kafka": addresses.kafka, "redis": addresses.redis},
                "kafka": kafka_of(addresses.kafka).given,
                "logins": dict(addresses.logins),
                "auth": self._auth,
                "processes": [*given, *(_entry(running) for running in self.supervisor.children)],
                "ends": [{"name": end.name, "code": end.code, "at": end.at} for end in self.supervisor.ends],
                "leftOut": [self._left_out(name) for name in self.plan.left_out],
            },
        )

    def _left_out(self, name: str) -> dict[str, Any]:
        port, ops_port = composition.public_port(name, self.plan), self.plan.ports[f"{name}-ops"]
        return {"name": name, "port": port, "opsPort": ops_port}

    def _note_change(self) -> None:
        try:
            self.write_state()
        except OSError as exc:  # a full disk must not end the supervision
            self.progress.say(f"the state cannot be written: {exc.strerror}")


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
        "trouble": running.trouble,
    }


async def run_up(
    folder: DataDir,
    *,
    is_cluster: bool,
    is_synchronous: bool = False,
    wanted: Mapping[str, int],
    without: Sequence[str],
    servers_only: bool,
    with_parent: bool,
    as_json: bool,
) -> None:
    """Run until SIGINT or SIGTERM. ``without``: processes or kinds of processes to leave out.

    Raises StackError, OperatorError; all that was started has ended then.
    """
    if is_synchronous and not is_cluster:
        raise OperatorError("--synchronous needs a replica: add --cluster")
    parent = os.getppid() if with_parent else None
    if parent is not None:
        end_with_parent(parent, signal.SIGTERM)
    topology = cluster(is_proxied=find_haproxy() is not None and not servers_only) if is_cluster else single()
    left_out = topology.apps if servers_only else processes_named(topology, without)
    given = await find_given()
    folder.prepare()
    with folder.locked():
        folder.write(STATE, {})  # that of a run that was killed would mislead
        plan = replace(_plan(folder, topology, wanted, left_out), synchronous=is_synchronous)
        with Progress() as progress:
            servers = composition.servers(plan, given, progress)
            await _supervise(Up(plan, servers, progress), parent, as_json)


def _plan(
    folder: DataDir, topology: Topology, wanted: Mapping[str, int], left_out: tuple[str, ...] = ()
) -> composition.Plan:
    via = detours(os.environ.get("MILLRACE_PROXY_PORTS"), topology.edges)
    saved = folder.read(PORTS)
    _refuse_other_kind(folder, topology, saved)
    names = [*topology.ports, *(f"{broker}-via" for broker in topology.brokers if via)]
    ports = allot(names, saved, wanted)
    folder.write(PORTS, {**saved, **ports})
    return composition.Plan(folder, topology, ports, via, os.environ.get("MILLRACE_EXEC_WRAPPER") or None, left_out)


def _refuse_other_kind(folder: DataDir, topology: Topology, saved: Mapping[str, Any]) -> None:
    """Raise OperatorError for data of the other kind: a single broker cannot become one of three, or the reverse."""
    if saved and topology.brokers[0] not in saved:
        was, instead = ("one of each", "leave --cluster out") if topology.is_cluster else ("a cluster", "add --cluster")
        raise OperatorError(f"{folder.path} holds the data of {was}: {instead}, or choose another folder with --data")


async def _supervise(up: Up, parent: int | None, as_json: bool) -> None:
    stop_requested = asyncio.Event()
    _on_signals(up, stop_requested)
    watching = asyncio.create_task(_watch(parent, stop_requested))
    up.write_state()
    starting = asyncio.create_task(up.start())
    stopping = asyncio.create_task(stop_requested.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            await _announce(up, as_json)
            await stopping
        print_line("stopping …")
    except BaseExceptionGroup as exc:  # servers start side by side: report the first failure
        raise _first(exc) from exc
    finally:
        for task in (starting, stopping, watching):
            task.cancel()
        with suppress(asyncio.CancelledError, BaseExceptionGroup, Exception):
            await starting
        up.ready = False
        with up.progress.task("stopping", done=None):
            await up.supervisor.stop()
        up.plan.folder.write(STATE, {})
    print_line(f"everything has ended; the data stays in {up.plan.folder.path}")


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


def _on_signals(up: Up, stop_requested: asyncio.Event) -> None:
    def stop(number: int) -> None:
        # Only a second Ctrl-C: a closed terminal sends SIGHUP, and its shell's end SIGTERM, at once.
        if stop_requested.is_set() and number == signal.SIGINT:
            up.supervisor.kill()
        stop_requested.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop, number)


async def _watch(parent: int | None, stop_requested: asyncio.Event) -> None:
    """Watch the parent too: the kernel's signal may have come before its handler was set."""
    if parent is None:
        return
    while os.getppid() == parent:  # noqa: ASYNC110 - nothing else tells
        await asyncio.sleep(0.5)
    stop_requested.set()


async def _settled(up: Up) -> dict[str, Any]:
    """Return the state once all are ready together, or after SETTLE_S: a worker that joins its group keeps the ready
    ones from their work for a moment."""
    clock = asyncio.get_running_loop().time
    end = clock() + SETTLE_S
    while (state := await inspect(up.plan.folder))["state"] != "ready" and clock() < end:  # noqa: ASYNC110
        await asyncio.sleep(_LOOK_S)
    return state


async def _announce(up: Up, as_json: bool) -> None:
    if as_json:
        print(json.dumps(await _settled(up)), flush=True)
        return
    children = [running.child for running in up.supervisor.children]
    show_ready(up.urls, children, up.servers.given, up.progress.seconds)
    show_left_out(up.plan.folder, up.plan.left_out)
    if up.plan.apps:
        show_next(up.plan.folder)
