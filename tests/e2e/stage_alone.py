"""``python -m tests.e2e.stage_alone NAME``: a real worker with a stage that fails on everything it reads."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import uvloop

from adapters.kafka.producer import open_log
from adapters.postgres.epochs import PostgresEpochs
from adapters.postgres.pool import open_pool
from runtime.lifecycle import until_told_to_stop
from runtime.read_settings import process_settings
from schemas.events import AnyEvent, MessageCreated
from streams.stage import Stage
from streams.worker import Worker


async def fail(_: Sequence[AnyEvent]) -> Sequence[AnyEvent]:
    raise KeyError


async def run(name: str) -> None:
    settings = process_settings()
    stage = Stage(name, (MessageCreated,), (), fail)
    async with open_pool(settings.pg.dsn.get_secret_value(), size=2) as pool, open_log(settings.kafka) as log:
        epochs = PostgresEpochs(pool, name)
        await Worker(stage, log, settings.kafka, settings.data_dir, epochs, 2.0).run(until_told_to_stop)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(sys.argv[1]))
