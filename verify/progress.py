"""Progress of a trial on standard error: a live table on a terminal, lines otherwise."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import takewhile

from rich.console import Console
from rich.live import Live
from rich.table import Table

from verify.edges import RULES, Edge, Measurement
from verify.history import History, InjectedFault
from verify.latencies import latency

_EVERY_S = 0.5
_RECENT_S = 10.0


@dataclass(slots=True)
class ProgressView:
    """Shows a run while it lasts."""

    history: History
    messages: int
    quiet: bool = False
    console: Console = field(default_factory=lambda: Console(stderr=True))
    began: float = field(default_factory=time.monotonic)
    _live: Live | None = None

    def say(self, text: str) -> None:
        """Print a line with the time since the start."""
        if not self.quiet:
            at = time.monotonic() - self.began
            self.console.print(f"[dim]{at:6.1f} s[/dim]  {text}", highlight=False, soft_wrap=True)

    def show_fault(self, injected: InjectedFault, over: bool) -> None:
        """Print that a fault begins, or is over."""
        if injected.impossible:
            self.say(f"{injected.name} cannot be made here: {injected.impossible}")
        elif not over:
            self.say(f"[red]{injected.name}[/red]")
        else:
            after = injected.healed - injected.began
            healed = f"healed after {after:.1f} s" if after else "made"
            self.say(f"[green]{injected.name} {healed}[/green]: {injected.evidence or 'no effect is known'}")

    async def run(self) -> None:
        """Draw the table until cancelled."""
        if self.quiet or not self.console.is_terminal:
            return
        with Live(console=self.console, refresh_per_second=4, transient=True) as live, suppress(asyncio.CancelledError):
            while True:
                live.update(self._drawn())
                await asyncio.sleep(_EVERY_S)

    def _drawn(self) -> Table:
        counts = self.history.counts()
        broken = [injected.name for injected in self.history.faults if injected.healed == float("inf")]
        table = Table.grid(padding=(0, 2))
        table.add_row("sent", f"{counts['sent']:,} of {self.messages:,}")
        table.add_row("accepted", f"{counts['accepted']:,}", "unknown", f"{counts['unknown']:,}")
        table.add_row("delivered", f"{counts['delivered']:,}", "reconnects", f"{counts['reconnects']:,}")
        for edge, taken in self.history.measurements.items():
            if taken:
                table.add_row(edge, *_recent(edge, taken, time.monotonic()))
        table.add_row("broken now", f"[red]{', '.join(broken)}[/red]" if broken else "nothing")
        return table


def _recent(edge: Edge, taken: Sequence[Measurement], now: float) -> Iterator[str]:
    """Yield the median of the messages of the last seconds, and the time that the oldest late one has waited. Pure."""
    last = list(takewhile(lambda each: each.began > now - _RECENT_S, reversed(taken)))
    arrived = [each.seconds(now) for each in last if each.ended is not None]
    yield f"{latency(arrived).median_s:.2f} s" if arrived else "-"
    oldest = max((each.seconds(now) for each in taken if each.ended is None), default=0.0)
    yield f"[red]late for {oldest:.0f} s[/red]" if oldest > RULES[edge].late_s else ""
