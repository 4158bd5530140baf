"""A whole trial: a stack, a script, a schedule of faults, a run, a verdict."""

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
from adapters.postgres.snapshot import StoredTruth
from audit.auditor import Audit
from audit.topic_checks import CREATED
from schemas.topics import stages
from stack.errors import OperatorError
from stack.running import RunningStack
from stack.topology import PROXY
from verify import fake_clock as clocked
from verify.checker import judge
from verify.errors import explained
from verify.faults import FAULTS, Planned, schedule, world_of
from verify.final_state import Store
from verify.history import Evidence, Room
from verify.nemesis import Breaker
from verify.progress import Picture
from verify.quiescence import lags_of, no_lags
from verify.remote_state import RemoteTruth
from verify.report import report
from verify.run import Lags, Run
from verify.sampler import find_leaks
from verify.testbed import Stand, open_stand
from verify.workload import RoomScript, write

_LEAST_S = 10.0
_WRAP = "MILLRACE_WRAP"
_SELDOM = frozenset({"full-disk"})
"""What needs a machine made ready for it is broken only when it is named."""


_NOT_ON_CLUSTER = frozenset({"hole-valkey", "cut-valkey", "slow-valkey", "refuse-valkey"})
"""Nodes of a Redis Cluster name each other to clients, which then go around any proxy."""


def chosen(names: str, seed: int, seconds: float, *, cluster: bool = False) -> list[Planned]:
    """The schedule that a user asked for. Raises OperatorError."""
    if names == "none":
        return []
    left_out = _SELDOM | (_NOT_ON_CLUSTER if cluster else frozenset())
    among = [name for name in FAULTS if name not in left_out and (clocked.library() or not name.startswith("clock-"))]
    wanted = None if names == "random" else [name.strip() for name in names.split(",")]
    try:
        return schedule(seed, wanted, seconds, among=among)
    except KeyError as exc:
        raise OperatorError(f"there is no fault {exc}; `millrace verify --faults list` shows what there is") from exc
    except ValueError as exc:
        raise OperatorError(f"{exc}: send more messages, or at a lower --rate") from exc


def front_doors(text: str) -> tuple[str, str, str]:
    """HTTP URL, WebSocket URL, and the secret with which tokens are made. Raises OperatorError."""
    http, _, ws = text.partition(",")
    secret = os.environ.get("MILLRACE_AUTH__SECRET", "")
    if not (http.startswith("http") and ws.startswith("ws")):
        raise OperatorError("--against takes both front doors: http://host:8080,ws://host:8081/ws")
    if not secret:
        raise OperatorError("set MILLRACE_AUTH__SECRET to that of the stack: the clients of the trial need tokens")
    return http.rstrip("/"), ws, secret


def show_faults() -> None:
    """One line for each."""
    for name, make in FAULTS.items():
        wanted = make()
        lasts = f"for {wanted.lasts_s:.0f} s" if wanted.lasts_s else "at once"
        print(f"{name:20}{lasts:12}{', '.join(wanted.targets)}")


@dataclass(slots=True)
class Trial:
    """One trial."""

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
        """How long messages are sent."""
        return max(_LEAST_S, self.messages / self.rate)

    async def run(self) -> dict[str, Any]:
        """The report. Raises OperatorError."""
        began, evidence = time.monotonic(), Evidence(self.name, self.seed)
        picture = Picture(evidence, self.messages, self.quiet)
        picture.say(f"starting {'a cluster' if self.cluster else 'a stack'}; seed {self.seed}")
        async with AsyncExitStack() as stack:
            environment = self._environment(stack)
            opened = open_stand(cluster=self.cluster, environment=environment, keep=self.keep, seed=self.seed)
            stand = await stack.enter_async_context(opened)
            picture.say(f"ready; {self.messages} messages in {self.seconds:.0f} s, {len(self.plan)} faults")
            drawing = asyncio.create_task(picture.run())
            try:
                with explained(self.seed, stand.logs):
                    said = await self._judged(stand, evidence, picture, environment.get(clocked.CLOCKS), began)
            except asyncio.CancelledError:
                picture.say(f"ended early; see the logs in {stand.logs}")
                raise
            finally:
                drawing.cancel()
            stand.kept = stand.kept or not said["kept"]
            return {**said, "data": str(stand.data) if stand.kept else None}

    def _environment(self, stack: AsyncExitStack) -> dict[str, str]:
        """Clocks can be stepped only where each process has one of its own."""
        import tempfile

        if _WRAP in os.environ or not any(planned.fault.startswith("clock-") for planned in self.plan):
            return {}
        clocks = stack.enter_context(tempfile.TemporaryDirectory(prefix="millrace-clocks-"))
        return {_WRAP: clocked.__name__, clocked.CLOCKS: clocks}

    async def _judged(
        self, stand: Stand, evidence: Evidence, picture: Picture, clocks: str | None, began: float
    ) -> dict[str, Any]:
        running, rng = stand.stack, random.Random(self.seed)
        world = world_of(running, rng, stand.proxies, Path(clocks) if clocks else None)
        token = cache(partial(issue, running.jwt_secret, ttl_s=86_400))
        run = Run(evidence, *_doors(running), token, self.seconds, rng, picture.say)
        breaker = Breaker(world, self.plan, evidence.blows, picture.blow)
        async with open_pool(running.pg_dsn, size=2) as pool:

            def observe(_: httpx2.AsyncClient, rooms: Sequence[Room]) -> tuple[Store, Lags]:
                ids = [room.conversation_id for room in rooms]
                return StoredTruth(pool, ids), partial(lags_of, running.kafka)

            since = datetime.now(UTC)
            truths = await run.go(self._scripts(), breaker, observe)
            picture.say("at rest; judging")
            evidence.audit = await _audited(pool, running.kafka, since, [t.conversation_id for t in truths])
        evidence.leaks = find_leaks(stand.logs, self._canaries(running.jwt_secret, token, evidence))
        return report(evidence, judge(evidence, truths), time.monotonic() - began)

    async def run_against(self, http: str, ws: str, secret: str) -> dict[str, Any]:
        """The report on a stack that somebody else runs, which is not broken. Raises OperatorError."""
        began, evidence = time.monotonic(), Evidence(self.name, self.seed)
        picture = Picture(evidence, self.messages, self.quiet)
        token = cache(partial(issue, secret, ttl_s=86_400))
        run = Run(evidence, [http], [ws], token, self.seconds, random.Random(self.seed), picture.say)

        def observe(client: httpx2.AsyncClient, rooms: Sequence[Room]) -> tuple[Store, Lags]:
            return RemoteTruth(client, http, rooms, token), no_lags

        with explained(self.seed):
            truths = await run.go(self._scripts(), None, observe)
        return report(evidence, judge(evidence, truths), time.monotonic() - began)

    def _scripts(self) -> list[RoomScript]:
        return write(self.seed, self.messages, self.rate, run=self.name)

    def _canaries(self, secret: str, token: Callable[[str], str], evidence: Evidence) -> list[str]:
        """The secret, what contents begin with, and the signatures of all tokens."""
        users = {seat.user for room in evidence.rooms for seat in room.script.seats}
        return [secret, f"{self.name} ", *(token(user).rpartition(".")[2] for user in sorted(users))]


def _doors(stack: RunningStack) -> tuple[list[str], list[str]]:
    """Where clients go: through the proxy, or, where there is none, to any node."""
    if stack.is_cluster and not stack.nodes(PROXY):
        return [n.http_url for n in stack.nodes("ingest")], [n.ws_url for n in stack.nodes("gateway")]
    return [stack.http_url], [stack.ws_url]


async def _audited(pool: Pool, kafka: str, since: datetime, conversation_ids: Sequence[str]) -> list[str]:
    """What an audit finds in the store, the topics and what the stages left, when nothing may be under way."""
    async with open_reader(kafka) as reader:
        commits = partial(committed, kafka, stages(), CREATED)
        found = await Audit(PostgresAudit(pool), reader, commits, since, 0.0, frozenset(conversation_ids)).run()
    return [f"{f.check}: {f.kind.value}, {f.text} {f.conversation_id} seq {f.seq}" for f in found.findings]
