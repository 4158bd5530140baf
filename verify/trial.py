"""A trial: a stack, a workload, a schedule of faults, a run, a verdict."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

import httpx2

from adapters.auth import issue
from adapters.kafka.admin import committed
from adapters.kafka.reader import open_reader
from adapters.postgres.audit import PostgresAudit
from adapters.postgres.pool import Pool, open_pool
from adapters.postgres.snapshot import SnapshotReader
from audit.auditor import Audit
from audit.findings import Finding
from audit.topic_checks import CREATED
from schemas.topics import stages
from stack.errors import OperatorError
from stack.running import RunningStack
from stack.topology import PROXY
from verify import fake_clock
from verify.checker import judge
from verify.errors import explained
from verify.faults import FAULTS, Planned, schedule, target_of
from verify.final_state import Store
from verify.history import History, Room
from verify.nemesis import Nemesis
from verify.progress import ProgressView
from verify.quiescence import lags_of, no_lags
from verify.remote_state import RemoteState
from verify.report import report
from verify.run import Lags, Run
from verify.sampler import find_leaks
from verify.testbed import Testbed, open_testbed
from verify.workload import RoomWorkload, generate

_LEAST_S = 10.0
_WRAP = "MILLRACE_EXEC_WRAPPER"
_SELDOM = frozenset({"full-disk"})
"""Faults that need a prepared machine are injected only when they are named."""


_NOT_ON_CLUSTER = frozenset({"hole-valkey", "cut-valkey", "slow-valkey", "refuse-valkey"})
"""Nodes of a Redis Cluster name each other to clients, which then go around any proxy."""


def planned_faults(names: str, seed: int, seconds: float, *, cluster: bool = False) -> list[Planned]:
    """Return the schedule for the names that a user gave. Raises OperatorError."""
    if names == "none":
        return []
    left_out = _SELDOM | (_NOT_ON_CLUSTER if cluster else frozenset())
    among = [
        name for name in FAULTS if name not in left_out and (fake_clock.library() or not name.startswith("clock-"))
    ]
    wanted = None if names == "random" else [name.strip() for name in names.split(",")]
    try:
        return schedule(seed, wanted, seconds, among=among)
    except KeyError as exc:
        raise OperatorError(f"there is no fault {exc}; `millrace verify --faults list` shows what there is") from exc
    except ValueError as exc:
        raise OperatorError(f"{exc}: send more messages, or at a lower --rate") from exc


def front_doors(text: str) -> tuple[str, str, str]:
    """Return the HTTP URL, the WebSocket URL and the secret that signs tokens. Raises OperatorError."""
    http, _, ws = text.partition(",")
    secret = os.environ.get("MILLRACE_AUTH__SECRET", "")
    if not (http.startswith("http") and ws.startswith("ws")):
        raise OperatorError("--against must be HTTP_URL,WS_URL, such as http://host:8080,ws://host:8081/ws")
    if not secret:
        raise OperatorError("set MILLRACE_AUTH__SECRET to that of the stack: the clients of the trial need tokens")
    return http.rstrip("/"), ws, secret


def print_faults() -> None:
    """Print the faults, one a line."""
    for name, make in FAULTS.items():
        wanted = make()
        lasts = f"for {wanted.lasts_s:.0f} s" if wanted.lasts_s else "at once"
        print(f"{name:20}{lasts:12}{', '.join(wanted.targets)}")


@dataclass(slots=True)
class Trial:
    """A trial of ``messages`` messages at ``rate`` a second."""

    messages: int
    rate: float
    seed: int
    cluster: bool = False
    keep: bool = False
    quiet: bool = False
    plan: Sequence[Planned] = ()
    name: str = field(default_factory=lambda: f"v{secrets.token_hex(4)}")

    @property
    def seconds(self) -> float:
        """Duration of the load in seconds."""
        return max(_LEAST_S, self.messages / self.rate)

    async def run(self) -> dict[str, Any]:
        """Start a stack, break it under load, return the report. Raises OperatorError."""
        began, history = time.monotonic(), History(self.name, self.seed)
        progress = ProgressView(history, self.messages, self.quiet)
        progress.say(f"starting {'a cluster' if self.cluster else 'a stack'}; seed {self.seed}")
        async with AsyncExitStack() as stack:
            environment = self._environment(stack)
            opened = open_testbed(cluster=self.cluster, environment=environment, keep=self.keep, seed=self.seed)
            testbed = await stack.enter_async_context(opened)
            progress.say(f"ready; {self.messages} messages in {self.seconds:.0f} s, {len(self.plan)} faults")
            drawing = asyncio.create_task(progress.run())
            try:
                with explained(self.seed, testbed.logs):
                    found = await self._judged(testbed, history, progress, environment.get(fake_clock.CLOCKS), began)
            except asyncio.CancelledError:
                progress.say(f"ended early; see the logs in {testbed.logs}")
                raise
            finally:
                drawing.cancel()
            testbed.kept = testbed.kept or not found["kept"]
            return {**found, "data": str(testbed.data) if testbed.kept else None}

    def _environment(self, stack: AsyncExitStack) -> dict[str, str]:
        """Return variables that give each process a clock of its own, if a clock is to be stepped."""
        import tempfile

        if _WRAP in os.environ or not any(planned.fault.startswith("clock-") for planned in self.plan):
            return {}
        clocks = stack.enter_context(tempfile.TemporaryDirectory(prefix="millrace-clocks-"))
        return {_WRAP: fake_clock.__name__, fake_clock.CLOCKS: clocks}

    async def _judged(
        self, testbed: Testbed, history: History, progress: ProgressView, clocks: str | None, began: float
    ) -> dict[str, Any]:
        running, rng = testbed.stack, random.Random(self.seed)
        target = target_of(running, rng, testbed.proxies, Path(clocks) if clocks else None, history)
        token = cache(partial(issue, running.jwt_secret, ttl_s=86_400))
        run = Run(history, *_doors(running), token, self.seconds, rng, progress.say)
        nemesis = Nemesis(target, self.plan, history.faults, progress.show_fault)
        async with open_pool(running.pg_dsn, size=2) as pool:

            def observe(_: httpx2.AsyncClient, rooms: Sequence[Room]) -> tuple[Store, Lags]:
                ids = [room.conversation_id for room in rooms]
                return SnapshotReader(pool, ids), partial(lags_of, running.kafka)

            since = datetime.now(UTC)
            states = await run.go(self._workloads(), nemesis, observe)
            progress.say("at rest; judging")
            judged = [state.conversation_id for state in states]
            history.audit = await _audited(pool, running.kafka, since, judged)
        history.leaks = find_leaks(testbed.logs, self._canaries(running.jwt_secret, token, history))
        return report(history, judge(history, states), time.monotonic() - began)

    async def run_against(self, http: str, ws: str, secret: str) -> dict[str, Any]:
        """Put load on a stack that somebody else runs, without faults; return the report. Raises OperatorError."""
        began, history = time.monotonic(), History(self.name, self.seed)
        progress = ProgressView(history, self.messages, self.quiet)
        token = cache(partial(issue, secret, ttl_s=86_400))
        run = Run(history, [http], [ws], token, self.seconds, random.Random(self.seed), progress.say)

        def observe(client: httpx2.AsyncClient, rooms: Sequence[Room]) -> tuple[Store, Lags]:
            return RemoteState(client, http, rooms, token), no_lags

        with explained(self.seed):
            states = await run.go(self._workloads(), None, observe)
        return report(history, judge(history, states), time.monotonic() - began)

    def _workloads(self) -> list[RoomWorkload]:
        return generate(self.seed, self.messages, self.rate, run=self.name)

    def _canaries(self, secret: str, token: Callable[[str], str], history: History) -> list[str]:
        """Return the secret, the prefix of contents, and the signatures of all tokens."""
        users = {spec.user for room in history.rooms for spec in room.workload.devices}
        return [secret, f"{self.name} ", *(token(user).rpartition(".")[2] for user in sorted(users))]


def _doors(stack: RunningStack) -> tuple[list[str], list[str]]:
    """Return the HTTP and WebSocket URLs for clients: the proxy's, or, without one, those of all nodes."""
    if stack.is_cluster and not stack.nodes(PROXY):
        return [n.http_url for n in stack.nodes("ingest")], [n.ws_url for n in stack.nodes("gateway")]
    return [stack.http_url], [stack.ws_url]


async def _audited(pool: Pool, kafka: str, since: datetime, conversation_ids: Sequence[str]) -> list[Finding]:
    """Return the findings of an audit that allows nothing to be under way."""
    async with open_reader(kafka) as reader:
        commits = partial(committed, kafka, stages(), CREATED)
        found = await Audit(PostgresAudit(pool), reader, commits, since, 0.0, frozenset(conversation_ids)).run()
    return found.findings
