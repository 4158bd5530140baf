"""``python -m bench``: measure, and keep the results."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import orjson

from bench import (
    backlog,
    ejabberd,
    fanout,
    growth,
    hostile,
    idle,
    intake,
    latency,
    machine,
    memory,
    outbox,
    plot,
    receipts,
    search,
    storm,
    summary,
    tail,
)
from bench.pairs import Result
from bench.process import BenchError
from bench.world import World, open_world
from runtime.logs import configure_command
from schemas.clock import now
from verify.attacks import ATTACKS

Metric: TypeAlias = Callable[[World, int, float], Awaitable[list[Result]]]

METRICS: dict[str, Metric] = {
    "fanout": fanout.measure,
    "backlog": backlog.measure,
    "receipts": receipts.measure,
    "latency": latency.measure,
    "ejabberd": ejabberd.measure,
    "idle": idle.measure,
    "growth": growth.measure,
    "memory": memory.measure,
    "storm": storm.measure,
    "tail": tail.measure,
    "intake": intake.measure,
    "search": search.measure,
    "outbox": outbox.measure,
}
_HOSTILE = {f"hostile-{name}": partial(hostile.measure, name=name) for name in ATTACKS}
"""Attacks, each on a stack of its own; ``hostile`` stands for all of them."""


async def run(names: Sequence[str], pairs: int, seconds: float, warm_s: float, into: Path) -> bool:
    """Measure these metrics; return True when all of them could be measured."""
    machine.allow_files()
    complete = True
    async with open_world(warm_s) as world:
        for name in names:
            try:
                for result in await (METRICS | _HOSTILE)[name](world, pairs, seconds):
                    keep(result, into)
            except (BenchError, OSError, TimeoutError) as exc:
                complete = False
                print(f"{name}: not measured: {exc or type(exc).__name__}", flush=True)
    return complete


def keep(result: Result, into: Path) -> None:
    """Write the result to a file and to a plot, and print a line."""
    record = {**result.as_json(), "at": now(), "machine": machine.description()}
    into.mkdir(parents=True, exist_ok=True)
    (into / f"{result.name}.json").write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2) + b"\n")
    (into / f"{result.name}.svg").write_text(plot.drawn(result))
    summary.write(into)
    mark = "reached" if result.reached else "MISSED"
    line = f"{result.name:16} {record['ratio']:7.2f} ({record['min']:.2f}-{record['max']:.2f}) of {result.reference}"
    print(
        f"{line}; {result.wanted} {result.target}: {mark}; {len(result.kept)} of {len(result.pairs)} pairs", flush=True
    )


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "--only",
        default=",".join((*METRICS, "hostile")),
        help=f"of {', '.join(METRICS)}, hostile; hostile-NAME is one attack",
    )
    parser.add_argument("--pairs", type=int, default=5, help="of measurements, ours and the reference")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument(
        "--warm", type=float, default=60.0, help="seconds of work before a stack is measured, for the JVM"
    )
    parser.add_argument("--into", type=Path, default=Path("bench/results"), help="where results are kept")
    options = parser.parse_args()
    configure_command()
    given = [name.strip() for name in options.only.split(",") if name.strip()]
    names = [name for each in given for name in (_HOSTILE if each == "hostile" else (each,))]
    if unknown := set(names) - (METRICS | _HOSTILE).keys():
        parser.error(f"no metric is called {', '.join(sorted(unknown))}; there are {', '.join(METRICS)}")
    sys.exit(0 if asyncio.run(run(names, options.pairs, options.seconds, options.warm, options.into)) else 1)


if __name__ == "__main__":
    main()
