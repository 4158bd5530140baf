"""``python -m audit``: the periodic audit, run by one process at a time."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Collection
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog
import uvloop

from adapters.kafka.access import require_files
from adapters.kafka.admin import committed
from adapters.kafka.reader import open_reader
from adapters.postgres.audit import PostgresAudit, open_leadership
from adapters.postgres.parking import PostgresParking
from adapters.postgres.pool import Pool, open_pool
from adapters.postgres.replica import ReadBounds, open_replica
from adapters.postgres.retention import PostgresPruning
from audit.auditor import Audit
from audit.findings import Kind, Report
from audit.open_letters import OpenLetters
from audit.topic_checks import CREATED, checks
from domain.errors import Invalid, Unavailable
from domain.retention import rules_of
from runtime.health import operator_server
from runtime.lifecycle import until_told_to_stop
from runtime.metrics import AUDIT_FINDINGS, AUDIT_SECONDS, AUDIT_SUCCESS, OPEN_LETTERS
from runtime.read_settings import EX_CONFIG, process_settings
from runtime.retention import Pruning
from runtime.server_settings import Postgres
from runtime.settings import Settings
from schemas.topics import stages

_log = structlog.get_logger()
_FIRST = timedelta(hours=1)
_MOST = timedelta(hours=24)
_OVERLAP = timedelta(minutes=1)
_LOGGED = 20
_RETRY_S = 10.0
_PATIENT = ReadBounds(catch_up_s=5.0, answer_s=None)
"""Nobody waits for an audit, and its statements are long."""


@dataclass(slots=True)
class Service:
    """Audits, at an interval, the messages since the last audit without a late finding, and some before them.

    So each message is judged at least once when it is older than the grace and all stages have reached it.
    """

    settings: Settings
    began: bool = False
    judged: datetime | None = None
    letters: OpenLetters = field(default_factory=OpenLetters)

    async def run(self) -> None:
        """Audit until cancelled. Waits while another process holds the lock, and while a server does not answer."""
        pg = self.settings.pg
        if self.settings.audit.interval_s <= 0:
            await asyncio.Event().wait()
        while True:
            try:
                async with open_leadership(pg.session_dsn) as leadership:
                    while await leadership.taken():
                        await asyncio.sleep(self._pause_s())
                        await self._once(pg)
            except Unavailable as exc:
                _log.warning("audit_waits", reason=str(exc), driver=exc.driver)
            await asyncio.sleep(min(_RETRY_S, self.settings.audit.interval_s))

    def _pause_s(self) -> float:
        """Return the pause before the next audit; before the first it is short, for a start needs time to catch up."""
        audit = self.settings.audit
        return min(audit.interval_s, audit.grace_s) if not self.began else audit.interval_s

    async def _once(self, pg: Postgres) -> None:
        began, now = time.monotonic(), datetime.now(UTC)
        grace_s, kafka = self.settings.audit.grace_s, self.settings.kafka
        since = self.since(now)
        async with (
            _open_pool(pg, "audit") as pool,
            open_replica(pg.replica_dsn.get_secret_value(), pool, size=2, bounds=_PATIENT) as replica,
            open_reader(kafka) as reader,
        ):
            commits = partial(committed, kafka, stages(), CREATED)
            store = PostgresAudit(pool, self.settings.retention.kept(), replica)
            report = await Audit(store, reader, commits, since, grace_s).run()
            for stage, count in (await self.letters.count(reader, partial(_closed, pool))).items():
                OPEN_LETTERS.labels(stage).set(count)
        self.began = True
        if not any(finding.kind is Kind.LATE for finding in report.findings):
            self.judged = now
        _publish(report, time.monotonic() - began)

    def since(self, now: datetime) -> datetime:
        """Return the beginning of the window of an audit at this time."""
        if self.judged is None:
            return now - _FIRST
        grace = timedelta(seconds=self.settings.audit.grace_s)
        return max(self.judged - grace - _OVERLAP, now - _MOST)


def _open_pool(pg: Postgres, name: str) -> AbstractAsyncContextManager[Pool]:
    return open_pool(pg.dsn.get_secret_value(), name=name, size=1, is_pooled=pg.is_pooled)


async def _closed(pool: Pool, stage: str) -> Collection[str]:
    return (await PostgresParking(pool, stage).closed()).keys()


def _publish(report: Report, seconds: float) -> None:
    for name in checks():
        AUDIT_FINDINGS.labels(name).set(sum(report.check(name).found.values()))
    AUDIT_SECONDS.set(seconds)
    AUDIT_SUCCESS.set_to_current_time()
    checked = sum(check.checked for check in report.checks.values())
    _log.info("audit_done", checked=checked, findings=report.total, seconds=round(seconds, 2))
    for finding in report.findings[:_LOGGED]:
        _log.warning(
            "audit_finding",
            check=finding.check,
            kind=finding.kind.value,
            conversation_id=finding.conversation_id,
            seq=finding.seq,
            message_id=finding.message_id,
            reason=finding.text,
        )


async def _prune(settings: Settings) -> None:
    """Delete what operators' records have outlived, until cancelled."""
    kept = settings.retention.kept()
    while True:
        with suppress(Unavailable):
            async with _open_pool(settings.pg, "pruning") as pool:
                await Pruning(PostgresPruning(pool, kept).prune, rules_of("audit", kept)).run()
        await asyncio.sleep(_RETRY_S)


async def run(settings: Settings) -> None:
    """Serve the operator port and audit, until SIGTERM or SIGINT."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(operator_server(settings.ops, "audit", lambda: not service.done()))
        service = asyncio.create_task(Service(settings).run())
        pruning = asyncio.create_task(_prune(settings))
        stopped = asyncio.create_task(until_told_to_stop())
        await asyncio.wait({service, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if service.done():
            service.result()
        service.cancel()
        pruning.cancel()
        await asyncio.wait({service, pruning}, timeout=10)


def main() -> None:
    """Run the process, with a lower priority than all others of this machine."""
    settings = process_settings()
    os.nice(10)
    try:
        require_files(settings.kafka)
        uvloop.run(run(settings))
    except Invalid as exc:
        _log.error("settings_invalid", reason=str(exc))
        sys.exit(EX_CONFIG)


if __name__ == "__main__":
    main()
