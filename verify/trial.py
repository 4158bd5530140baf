"""A trial: a stack, a workload, a schedule of faults, a run, a verdict."""

from __future__ import annotations

import asyncio
import json
import logging
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
from runtime.kafka_settings import Kafka
from schemas.topics import stages
from stack.errors import OperatorError
from verify import fake_clock
from verify.checker import judge
from verify.errors import explained
from verify.faults import target_of
from verify.final_state import Store
from verify.given_servers import refuse_used
from verify.history import History, Room
from verify.nemesis import Nemesis
from verify.observations import Processes
from verify.planning import Faults
from verify.probe import Probe
from verify.processes import ends_of, find_tracebacks, read_letters
from verify.progress import ProgressView
from verify.quiescence import lags_of, no_lags
from verify.readers import Readers
from verify.remote_state import RemoteState
from verify.report import report
from verify.run import Lags, Run
from verify.sampler import find_leaks
from verify.schedule import Planned
from verify.testbed import Testbed, open_testbed
from verify.uploaders import Uploaders
from verify.workload import RoomWorkload, generate

REPORT = "report.json"
"""File of a kept data folder: what ``--json`` prints."""
_WRAP = "MILLRACE_EXEC_WRAPPER"
_TTL_S, _AGE_S = 80_000, 3_600
"""Tokens are good by a clock that is some minutes behind, too."""


def front_doors(text: str) -> tuple[str, str, str]:
    """Return the HTTP URL, the WebSocket URL and the secret that signs tokens. Raises OperatorError."""
    http, _, ws = text.partition(",")
    secret = os.environ.get("MILLRACE_AUTH__SECRET", "")
    if not (http.startswith("http") and ws.startswith("ws")):
        raise OperatorError("--against must be HTTP_URL,WS_URL, such as http://host:8080,ws://host:8081/ws")
    if not secret:
        raise OperatorError("set MILLRACE_AUTH__SECRET to that of the stack: the clients of the trial need tokens")
    return http.rstrip("/"), ws, secret


@dataclass(slots=True)
class Trial:
    """A trial of ``messages`` messages, spread over the time that its faults need. ``is_given``: the environment names
    servers for it."""

    messages: int
    seed: int
    cluster: bool = False
    keep: bool = False
    is_given: bool = False
    quiet: bool = False
    faults: Faults = field(default_factory=Faults)
    name: str = field(default_factory=lambda: f"v{secrets.token_hex(4)}")

    @property
    def seconds(self) -> float:
        """Duration of the load in seconds."""
        return self.faults.seconds

    @property
    def plan(self) -> Sequence[Planned]:
        """The schedule of faults."""
        return self.faults.plan

    async def run(self) -> dict[str, Any]:
        """Start a stack, break it under load, return the report. Raises OperatorError."""
        logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)  # that PostgreSQL is away at times is meant
        began, history = time.monotonic(), History(self.name, self.seed)
        progress = ProgressView(history, self.messages, self.quiet)
        if self.is_given:
            with explained(self.seed):
                await refuse_used()
        progress.say(f"starting {'a cluster' if self.cluster else 'a stack'}; seed {self.seed}")
        async with AsyncExitStack() as stack:
            environment = self._environment(stack)
            opened = open_testbed(
                cluster=self.cluster,
                environment=environment,
                keep=self.keep,
                seed=self.seed,
                own_mounts=self.faults.need_mounts,
            )
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
            found |= {"leftOut": self.faults.left_out, "data": str(testbed.data) if testbed.kept else None}
            if testbed.kept:
                (testbed.data / REPORT).write_text(json.dumps(found))
            return found

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
        running = testbed.stack
        target = target_of(
            running, random.Random(self.seed), testbed.proxies, Path(clocks) if clocks else None, history
        )
        token = cache(partial(issue, running.jwt_secret, ttl_s=_TTL_S, age_s=_AGE_S))
        run = self._run_of(history, testbed.http, testbed.ws, token, progress.say)
        nemesis = Nemesis(target, self.plan, history.faults, progress.show_fault)
        async with open_pool(running.pg_dsn, size=2) as pool:

            def observe(_: httpx2.AsyncClient, rooms: Sequence[Room]) -> tuple[Store, Lags]:
                ids = [room.conversation_id for room in rooms]
                return SnapshotReader(pool, ids, history.probed), partial(lags_of, running.kafka)

            since = datetime.now(UTC)
            states = await run.go(self._workloads(), nemesis, observe)
            progress.say("at rest; judging")
            judged = [*(state.conversation_id for state in states), *history.probed]
            history.audit = await _audited(pool, running.kafka, since, judged)
        history.leaks = find_leaks(testbed.logs, self._canaries(running.jwt_secret, token, history))
        history.processes = await _observed(testbed)
        return report(history, judge(history, states), time.monotonic() - began)

    async def run_against(self, http: str, ws: str, secret: str) -> dict[str, Any]:
        """Put load on a stack that somebody else runs, without faults; return the report. Raises OperatorError."""
        began, history = time.monotonic(), History(self.name, self.seed)
        progress = ProgressView(history, self.messages, self.quiet)
        token = cache(partial(issue, secret, ttl_s=_TTL_S, age_s=_AGE_S))
        run = self._run_of(history, [http], [ws], token, progress.say)

        def observe(client: httpx2.AsyncClient, rooms: Sequence[Room]) -> tuple[Store, Lags]:
            return RemoteState(client, http, rooms, token), no_lags

        with explained(self.seed):
            states = await run.go(self._workloads(), None, observe)
        return report(history, judge(history, states), time.monotonic() - began)

    def _run_of(
        self,
        history: History,
        http: Sequence[str],
        ws: Sequence[str],
        token: Callable[[str], str],
        say: Callable[[str], None],
    ) -> Run:
        readers, uploaders = Readers(history, self.seed), Uploaders(history, self.seed)
        return Run(
            history,
            http,
            ws,
            token,
            self.seconds,
            random.Random(self.seed),
            say,
            activities=[readers, uploaders, Probe(history)],
            at_rest=[readers.conclude, uploaders.conclude],
        )

    def _workloads(self) -> list[RoomWorkload]:
        return generate(self.seed, self.messages, self.messages / self.seconds, run=self.name)

    def _canaries(self, secret: str, token: Callable[[str], str], history: History) -> list[str]:
        """Return the secret, the prefix of contents, and the signatures of all tokens."""
        users = {user for room in history.rooms for user in room.workload.members}
        return [secret, f"{self.name} ", *(token(user).rpartition(".")[2] for user in sorted(users))]


async def _observed(testbed: Testbed) -> Processes:
    """Return what the processes of a stack that is at rest have done on their own."""
    async with open_reader(testbed.stack.kafka) as reader:
        letters = await read_letters(reader)
    return Processes(ends_of(testbed.data), letters, find_tracebacks(testbed.logs))


async def _audited(pool: Pool, kafka: Kafka, since: datetime, conversation_ids: Sequence[str]) -> list[Finding]:
    """Return the findings of an audit that allows nothing to be under way."""
    async with open_reader(kafka) as reader:
        commits = partial(committed, kafka, stages(), CREATED)
        found = await Audit(PostgresAudit(pool), reader, commits, since, 0.0, frozenset(conversation_ids)).run()
    return found.findings
