"""``python -m streams NAME``: one stage in this process."""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib import import_module

import structlog
import uvloop

from adapters.kafka.access import require_files
from adapters.kafka.admin import wait_for_topics
from adapters.kafka.header_patch import patch_header_names
from adapters.kafka.producer import open_log
from adapters.postgres.epochs import PostgresEpochs
from adapters.postgres.messages import PostgresMessages
from adapters.postgres.pool import Pool, open_pool
from adapters.postgres.retention import PostgresPruning
from adapters.postgres.skips import PostgresSkips
from domain.errors import Invalid, Unavailable
from domain.retention import rules_of
from domain.skips import SkipList
from domain.uploads import BadStore
from runtime.health import operator_server
from runtime.lifecycle import end_process, freeze_gc, until_told_to_stop
from runtime.read_settings import EX_CONFIG, process_settings
from runtime.retention import Pruning
from runtime.settings import Settings
from runtime.tasks import Tasks
from schemas.events import ReceiptRecorded
from schemas.topics import stages
from streams.stage import Stage
from streams.worker import Worker

_log = structlog.get_logger()

_WAIT_S = 60.0
_POOL = 8

Open = Callable[[Settings, Pool], AbstractAsyncContextManager[Stage]]


@asynccontextmanager
async def _status(settings: Settings, pool: Pool) -> AsyncIterator[Stage]:
    from adapters.postgres.statuses import PostgresStatuses
    from streams.stages.status import create

    yield create(PostgresStatuses(pool, settings.devices_per_member))


@asynccontextmanager
async def _notification(settings: Settings, pool: Pool) -> AsyncIterator[Stage]:
    from adapters.kafka.receipt_progress import open_receipt_progress
    from adapters.postgres.notifications import PostgresNotifications
    from adapters.postgres.undecided import PostgresUndecided
    from adapters.redis.registry import open_registry
    from streams.stages.notification import create

    url, wanted = settings.redis.url.get_secret_value(), settings.notifications
    async with (
        open_registry(url, node=settings.node, lease_s=settings.gateway.lease_s) as registry,
        open_receipt_progress(settings.kafka, ReceiptRecorded.TOPIC, "status") as progress,
    ):
        yield create(
            PostgresNotifications(pool),
            registry,
            PostgresMessages(pool),
            PostgresUndecided(pool),
            progress,
            each_max_members=wanted.each_max_members,
            after_s=wanted.after_s,
            receipts_max_wait_s=wanted.receipts_max_wait_s,
        )


@asynccontextmanager
async def _analytics(_: Settings, pool: Pool) -> AsyncIterator[Stage]:
    from adapters.postgres.analytics import PostgresCounts
    from adapters.postgres.parking import PostgresParking
    from streams.stages.analytics import create

    yield create(PostgresCounts(pool), PostgresParking(pool, "analytics"), PostgresMessages(pool))


@asynccontextmanager
async def _media(settings: Settings, pool: Pool) -> AsyncIterator[Stage]:
    from adapters.files import open_blobs
    from adapters.postgres.media import PostgresMedia
    from streams.media.probe import probe
    from streams.stages.media import create

    files, blobs = PostgresMedia(pool), open_blobs(settings.media, settings.data_dir)
    yield create(files, blobs, probe, PostgresMessages(pool), settings.media.decoders)


@asynccontextmanager
async def _search(_: Settings, pool: Pool) -> AsyncIterator[Stage]:
    from adapters.postgres.search import PostgresSearch
    from streams.rebuild import rebuild
    from streams.stages.search import create

    index, tasks = PostgresSearch(pool), Tasks()
    tasks.spawn(rebuild(index))
    try:
        yield create(index, PostgresMessages(pool))
    finally:
        tasks.cancel()


ADAPTERS: dict[str, Open] = {
    "status": _status,
    "notification": _notification,
    "analytics": _analytics,
    "media": _media,
    "search": _search,
}
"""Stages with ports, and the adapters behind these; a stage without ports needs no entry."""


@asynccontextmanager
async def open_stage(name: str, settings: Settings, pool: Pool) -> AsyncIterator[Stage]:
    """Open the stage of ``streams/stages/NAME.py``, on adapters where it has ports."""
    if name in ADAPTERS:
        async with ADAPTERS[name](settings, pool) as stage:
            yield stage
    else:
        yield import_module(f"streams.stages.{name}").create()


async def run(name: str, settings: Settings) -> None:
    """Work until told to stop."""
    worker: Worker | None = None
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(
            operator_server(settings.ops, "stage", lambda: worker is not None and worker.ready)
        )
        dsn, is_pooled = settings.pg.dsn.get_secret_value(), settings.pg.is_pooled
        pool = await stack.enter_async_context(open_pool(dsn, size=_POOL, wait_s=None, is_pooled=is_pooled))
        stage = await stack.enter_async_context(open_stage(name, settings, pool))
        kept, tasks = settings.retention.kept(), Tasks()
        tasks.spawn(Pruning(PostgresPruning(pool, kept).prune, rules_of(name, kept)).run())
        stack.callback(tasks.cancel)
        log = await stack.enter_async_context(open_log(settings.kafka, client_id=f"millrace-{name}"))
        topics = [*stage.topics, stage.dead_letters]
        _log.debug("topics_awaited", stage=name, topics=topics)
        await wait_for_topics(settings.kafka, topics, _WAIT_S)
        epochs, skips = PostgresEpochs(pool, name), SkipList(PostgresSkips(pool), name)
        worker = Worker(stage, log, settings.kafka, settings.data_dir, epochs, skips=skips)
        patch_header_names()
        freeze_gc()
        await worker.run(until_told_to_stop)


def main() -> None:
    """Run the process."""
    parser = argparse.ArgumentParser(prog="python -m streams", description="Run one stage of the pipeline.")
    parser.add_argument("name", choices=sorted(stages()), help="the stage")
    name = parser.parse_args().name
    settings = process_settings()
    try:
        require_files(settings.kafka)
        uvloop.run(run(name, settings))
    except Unavailable as exc:
        end_process(exc)
    except (BadStore, Invalid) as exc:
        _log.error("settings_invalid", reason=str(exc))
        sys.exit(EX_CONFIG)


if __name__ == "__main__":
    main()
