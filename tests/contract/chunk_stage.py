"""``python -m tests.contract.chunk_stage``: a real worker on topics of its own, which tells what it has handled.

Its lines: ``handled TIME TOPIC PARTITION OFFSET``, and ``full`` once a partition is not read since its buffer is full.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import structlog
import uvloop

from adapters.kafka.header_patch import patch_header_names
from runtime.kafka_settings import Kafka
from runtime.lifecycle import until_told_to_stop
from streams import worker
from streams.batch import Result
from streams.dead_letters import ConsumerRecord
from streams.lanes import BatchPolicy
from streams.stage import Stage


class OneEpoch:
    """A log that has lost nothing."""

    async def current(self) -> int:
        return 1

    async def of(self, partitions: Sequence[str]) -> Mapping[str, int]:
        return {}

    async def reached(self, partitions: Sequence[str], epoch: int) -> None:
        pass


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def stage(name: str) -> Stage:
    """A stage of the topics NAME.a and NAME.b; those of the latter have lanes of their own."""
    kinds: Any = [type("Kind", (), {"TOPIC": f"{name}.{letter}"}) for letter in "ab"]
    policy = BatchPolicy(lanes=8, batch=50, most=800)
    return Stage(name, tuple(kinds), (), nothing, policy=policy, apart=(kinds[1],))


async def nothing(_: Any) -> list[Any]:
    return []


def handling(hold: str, pause_s: float, released: asyncio.Event) -> Callable[..., Any]:
    """Return the life of a batch in which each record is told; those whose place begins with ``hold`` wait before."""

    async def process(_stage: Any, part: Sequence[ConsumerRecord], _log: Any, _retry: Any, done: Any, _: Any) -> None:
        for record in part:
            if hold and f"{record.topic}/{record.partition}/{record.offset}/".startswith(f"{hold}/"):
                await released.wait()
            await asyncio.sleep(pause_s)
            say(f"handled {time.monotonic()} {record.topic} {record.partition} {record.offset}")
            done([record], Result())

    return process


async def tell_when_full(made: worker.Worker) -> None:
    while made.app is None or not made.app.consumer._buffered_partitions:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    say("full")


async def run(options: argparse.Namespace) -> None:
    released, log = asyncio.Event(), cast("Any", None)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, released.set)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    patch_header_names()
    setattr(worker, "process", handling(options.hold, options.pause_s, released))  # noqa: B010
    made = worker.Worker(stage(options.name), log, Kafka(bootstrap=options.bootstrap), options.folder, OneEpoch())
    telling = asyncio.create_task(tell_when_full(made))
    try:
        await made.run(until_told_to_stop)
    finally:
        telling.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("bootstrap")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hold", default="")
    parser.add_argument("--pause-s", type=float, default=0.0)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(parser.parse_args()))
