"""``millrace audit``: is every message everywhere where it must be? On the stack that runs, without stopping it."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from audit.findings import Remedy, Report
from audit.render import as_json as json_of
from audit.render import plan, show
from cli.durations import seconds
from domain.errors import Unavailable
from stack.errors import OperatorError
from stack.running import running_stack

_CLEAN, _FINDINGS, _BLIND = 0, 1, 2


def audit(
    since: Annotated[str, typer.Option(help="What was created within this time: 30s, 10m, 1h, 7d.")] = "1h",
    heal: Annotated[bool, typer.Option("--heal", help="Publish again what is missing, count anew.")] = False,
    older_than: Annotated[str, typer.Option(help="What is younger is not judged, and never healed.")] = "30s",
    conversation: Annotated[list[str] | None, typer.Option(help="Only this one; may be repeated.")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="The data folder of the stack that runs.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Compare store, topics and stages while all goes on. Exit 0: clean, 1: findings, 2: it could not look."""
    try:
        window, grace = _seconds("--since", since), _seconds("--older-than", older_than)
        stack, only = running_stack(data), _ids(conversation)
        began = time.monotonic()
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it would say, we say in one line
        report, healed = asyncio.run(_run(stack.pg_dsn, stack.kafka, window, grace, only, heal))
    except (OperatorError, Unavailable) as exc:
        print(f"millrace: the audit could not look: {exc}", file=sys.stderr)
        raise typer.Exit(_BLIND) from exc
    took = time.monotonic() - began
    if as_json:
        said = {"sinceSeconds": window, "olderThanSeconds": grace, "conversations": sorted(only) if only else None}
        print(json.dumps(json_of(report, said, healed, took)))
    else:
        show(report, f"what was created in the last {since}, older than {older_than}", healed, took)
    raise typer.Exit(_CLEAN if report.clean else _FINDINGS)


def _seconds(option: str, text: str) -> float:
    try:
        return float(seconds(text))
    except ValueError as exc:
        raise OperatorError(f"{option}: {exc}") from exc


def _ids(given: list[str] | None) -> Collection[str] | None:
    from schemas.ids import is_uuid

    for id_ in given or ():
        if not is_uuid(id_):
            raise OperatorError(f"--conversation {id_} is no conversation id: a UUID in lower case")
    return frozenset(given) if given else None


async def _run(
    dsn: str, bootstrap: str, window_s: float, grace_s: float, only: Collection[str] | None, heal: bool
) -> tuple[Report, dict[str, int] | None]:
    from adapters.kafka.admin import committed
    from adapters.kafka.reader import open_reader
    from adapters.postgres.audit import PostgresAudit
    from adapters.postgres.pool import open_pool
    from audit.auditor import Audit
    from audit.topic_checks import CREATED
    from schemas.topics import stages

    since = datetime.now(UTC) - timedelta(seconds=window_s)
    async with open_pool(dsn, size=2) as pool, open_reader(bootstrap) as reader:
        store = PostgresAudit(pool)
        commits = partial(committed, bootstrap, stages(), CREATED)
        report = await Audit(store, reader, commits, since, grace_s, only).run()
        if not heal:
            return report, None
        todo = plan(report)
        return report, {
            "republished": await store.republish(todo[Remedy.REPUBLISH], grace_s),
            "recounted": await store.recount(todo[Remedy.RECOUNT]),
        }
