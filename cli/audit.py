"""``millrace audit``: check that every message is in every place where it must be, while the stack runs."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated

import typer

from audit.findings import Remedy, Report
from audit.render import as_json as json_of
from audit.render import plan, show
from cli.actions import recorded
from cli.command import AsJson, Data, find_target, run
from cli.durations import option_seconds
from cli.target import Server, Target
from stack.errors import OperatorError

_CLEAN, _FINDINGS, _FAILED = 0, 1, 2


def audit(
    since: Annotated[str, typer.Option(help="Audit what was created within this time: 30s, 10m, 1h, 7d.")] = "1h",
    heal: Annotated[
        bool, typer.Option("--heal", help="Publish missing events again, refresh what differs, count anew.")
    ] = False,
    older_than: Annotated[str, typer.Option(help="Neither judge nor heal what is younger than this.")] = "30s",
    conversation: Annotated[list[str] | None, typer.Option(help="Only this conversation; repeatable.")] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Compare store, topics and stages while all goes on. Exit code 0: clean, 1: findings, 2: the audit failed."""
    try:
        window, grace = float(option_seconds("--since", since)), float(option_seconds("--older-than", older_than))
        only, target = _ids(conversation), find_target(data, Server.POSTGRES, Server.KAFKA)
        began = time.monotonic()
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # one line says it all, below
        report, healed = run(_run(target, window, grace, only, heal))
    except OperatorError as exc:
        print(f"millrace: the audit failed: {exc}", file=sys.stderr)
        raise typer.Exit(_FAILED) from exc
    took = time.monotonic() - began
    if as_json:
        scope = {"sinceSeconds": window, "olderThanSeconds": grace, "conversations": sorted(only) if only else None}
        print(json.dumps(json_of(report, scope, healed, took)))
    else:
        show(report, f"what was created in the last {since}, older than {older_than}", healed, took)
    raise typer.Exit(_CLEAN if report.clean else _FINDINGS)


def _ids(conversations: list[str] | None) -> Collection[str] | None:
    from schemas.ids import is_uuid

    for id_ in conversations or ():
        if not is_uuid(id_):
            raise OperatorError(f"--conversation must be a UUID in lower case; {id_} is not")
    return frozenset(conversations) if conversations else None


async def _run(
    target: Target, window_s: float, grace_s: float, only: Collection[str] | None, heal: bool
) -> tuple[Report, dict[str, int] | None]:
    from adapters.kafka.admin import committed
    from adapters.kafka.reader import open_reader
    from adapters.postgres.audit import PostgresAudit
    from adapters.postgres.pool import open_pool
    from audit.auditor import Audit
    from audit.topic_checks import CREATED
    from runtime.read_settings import read_settings
    from schemas.clock import wire_time
    from schemas.topics import stages

    since = datetime.now(UTC) - timedelta(seconds=window_s)
    async with open_pool(target.pg_dsn, size=2) as pool, open_reader(target.kafka) as reader:
        store = PostgresAudit(pool, read_settings().retention.kept())
        commits = partial(committed, target.kafka, stages(), CREATED)
        report = await Audit(store, reader, commits, since, grace_s, only).run()
        if not heal:
            return report, None
        todo = plan(report)
        scope = {"since": wire_time(since), "conversations": sorted(only) if only else None}
        async with recorded(target.pg_dsn, "audit --heal", scope) as healed:
            # First what a stage may do, too, when an event comes again.
            healed["recounted"] = await store.recount(todo[Remedy.RECOUNT])
            healed["refreshed"] = await store.refresh(todo[Remedy.REFRESH], grace_s)
            healed["republished"] = await store.republish(todo[Remedy.REPUBLISH], grace_s)
        return report, healed
