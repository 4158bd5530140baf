"""``millrace replay-irc``: send real chat logs through HTTP and WebSocket, and judge the result."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.client_errors import client_errors
from cli.command import AsJson, Data, find_target
from cli.target import Server, Target
from runtime.terminal import visible
from stack.errors import OperatorError

if TYPE_CHECKING:
    from millrace_client import RetryingTransport

    from verify.replay.day import Outcome
    from verify.replay.irc import Happening
    from verify.replay.quantiles import Quantiles

_EVIDENCE = 10


def replay_irc(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder of logs, one file for each day of a channel.")
    ],
    speed: Annotated[str, typer.Option(help="Multiple of real time, or max.")] = "max",
    days: Annotated[
        str | None, typer.Option(help="Only these files, without their ending: 2006-05-27,2017-09-02.")
    ] = None,
    parallel: Annotated[int, typer.Option(help="Number of days replayed at the same time.", min=1, max=16)] = 4,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Send chat logs through HTTP and WebSocket; report what was lost, doubled or out of order (then exit code 1)."""
    import uvloop

    logs, times = _logs(folder, days), _speed(speed)
    target = find_target(data, Server.HTTP, Server.WEBSOCKET, Server.SECRET)
    replay = Replay(target, logs, times, parallel, quiet=as_json)
    with client_errors():
        report = uvloop.run(replay.run())
    print(json.dumps(report)) if as_json else _show(report)
    if not report["kept"]:
        raise typer.Exit(1)


def _logs(folder: Path, days: str | None) -> dict[str, list[Happening]]:
    from verify.replay.irc import read

    if not folder.is_dir():
        raise OperatorError(f"DIR must be a folder with one log for each day of a channel; {folder} is none")
    files = {file.stem: file for file in sorted(folder.glob("*.txt")) if file.stem[:4].isdigit()}
    if not files:
        raise OperatorError(f"{folder} holds no logs named like 2006-05-27.txt")
    wanted = [day.strip() for day in days.split(",")] if days else list(files)
    unknown = [day for day in wanted if day not in files]
    if unknown:
        raise OperatorError(f"no log of {', '.join(unknown)} in {folder}; there is {', '.join(files)}")
    return {day: read(files[day].read_bytes()) for day in wanted}


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not speed > 0:
        raise OperatorError("--speed must be a positive number (times real time), or max")
    return speed


@dataclass(slots=True)
class Replay:
    """Replay of all days, some at the same time."""

    stack: Target
    logs: dict[str, list[Happening]]
    speed: float | None
    parallel: int
    quiet: bool = False
    outcomes: list[Outcome] = field(default_factory=list)
    _tokens: dict[str, str] = field(default_factory=dict)

    async def run(self) -> dict[str, Any]:
        """Return the report. Raises OperatorError when the HTTP API or the gateway does not answer."""
        from millrace_client import open_http

        from verify.replay.quantiles import Quantiles

        post, delivery, began = Quantiles(), Quantiles(), time.monotonic()
        with progress_bar(sum(map(len, self.logs.values())), self.quiet) as progress:
            async with open_http(self.stack.http_url) as door:
                gate = asyncio.Semaphore(self.parallel)
                try:
                    async with asyncio.TaskGroup() as group:
                        for name in self.logs:
                            group.create_task(self._day(name, gate, door, post, delivery, progress))
                except BaseExceptionGroup as exc:  # the first day that fails ends all; its error says why
                    raise exc.exceptions[0] from exc
        return report(self.outcomes, post, delivery, door.repeats, time.monotonic() - began)

    async def _day(
        self,
        name: str,
        gate: asyncio.Semaphore,
        door: RetryingTransport,
        post: Quantiles,
        delivery: Quantiles,
        progress: Callable[[int], None],
    ) -> None:
        from verify.replay.day import Day

        async with gate:
            log, url = self.logs.pop(name), self.stack.ws_url
            day = Day(name, log, door, url, self._token, post, delivery, progress, self.speed)
            self.outcomes.append(await day.run())

    def _token(self, user: str) -> str:
        if user not in self._tokens:
            self._tokens[user] = self.stack.token(user, ttl_s=7 * 86_400)
        return self._tokens[user]


class progress_bar:  # noqa: N801 - used as a function
    """A bar for a terminal, a line every ten seconds otherwise. Calling it counts."""

    def __init__(self, total: int, quiet: bool) -> None:
        self.total, self.quiet, self.done, self.said_at = total, quiet, 0, time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> progress_bar:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        if console.is_terminal and not self.quiet:
            columns = (TextColumn("lines"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=console)
            self._bar.start()
            self._task = self._bar.add_task("", total=self.total)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, count: int) -> None:
        self.done += count
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done)
        elif not self.quiet and time.monotonic() - self.said_at > 10:
            import sys

            self.said_at = time.monotonic()
            print(f"{self.done} of {self.total} lines", file=sys.stderr, flush=True)


def report(
    outcomes: Sequence[Outcome], post: Quantiles, delivery: Quantiles, repeats: int, seconds: float
) -> dict[str, Any]:
    """Return the report as JSON-compatible values."""
    found = [violation for outcome in outcomes for violation in outcome.violations]
    counts: Counter[str] = Counter()
    for violation in found:
        counts[violation.sort] += violation.count
    evidence = [f"{violation.invariant} {violation.text}" for violation in found]
    delivered = sum(outcome.delivered for outcome in outcomes)
    accepted = sum(outcome.accepted for outcome in outcomes)
    return {
        "kept": not found,
        "days": len(outcomes),
        "lines": sum(outcome.lines for outcome in outcomes),
        "accepted": accepted,
        "members": sum(outcome.members for outcome in outcomes),
        "sockets": sum(outcome.sockets for outcome in outcomes),
        "expected": sum(outcome.expected for outcome in outcomes),
        "delivered": delivered,
        "lost": counts["lost"],
        "doubled": counts["doubled"],
        "outOfOrder": counts["reordered"],
        "wrong": counts["wrong"],
        "rawRepeats": sum(outcome.raw_repeats for outcome in outcomes),
        "reconnects": sum(outcome.reconnects for outcome in outcomes),
        "postRepeats": repeats,
        "postMs": post.milliseconds(),
        "deliveryMs": delivery.milliseconds(),
        "seconds": round(seconds, 1),
        "messagesPerSecond": round(accepted / seconds, 1),
        "deliveriesPerSecond": round(delivered / seconds, 1),
        "evidence": evidence[:_EVIDENCE],
    }


def _show(values: dict[str, Any]) -> None:
    times = {name: "  ".join(f"{k} {v:.1f}" for k, v in values[name].items()) for name in ("postMs", "deliveryMs")}
    rows = {
        "days, lines": f"{values['days']}, {values['lines']:,}",
        "accepted": f"{values['accepted']:,} messages ({values['postRepeats']} requests repeated)",
        "members, sockets": f"{values['members']:,}, {values['sockets']:,} ({values['reconnects']} reconnects)",
        "delivered": f"{values['delivered']:,} of {values['expected']:,} ({values['rawRepeats']} repeats on the wire)",
        "lost": f"{values['lost']}",
        "doubled": f"{values['doubled']}",
        "out of order": f"{values['outOfOrder']}",
        "wrong": f"{values['wrong']}",
        "POST, ms": times["postMs"],
        "POST to each recipient, ms": times["deliveryMs"],
        "took": f"{values['seconds']} s: {values['messagesPerSecond']:,} messages/s,"
        f" {values['deliveriesPerSecond']:,} deliveries/s",
    }
    for name, value in rows.items():
        print(f"{name:27} {value}")
    for line in values["evidence"]:
        print(f"  {visible(line)}")
    verdict = "kept" if values["kept"] else "BROKEN"
    print(
        f"\nthe promise was {verdict}: lost {values['lost']}, doubled {values['doubled']},"
        f" out of order {values['outOfOrder']}"
    )
