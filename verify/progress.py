"""What is being broken now: a picture on a terminal, lines otherwise. All of it on standard error."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.table import Table

from verify.history import Blow, Evidence

_EVERY_S = 0.5


@dataclass(slots=True)
class Picture:
    """Shows a run while it lasts."""

    evidence: Evidence
    messages: int
    quiet: bool = False
    console: Console = field(default_factory=lambda: Console(stderr=True))
    began: float = field(default_factory=time.monotonic)
    _live: Live | None = None

    def say(self, text: str) -> None:
        """One line of what goes on."""
        if not self.quiet:
            at = time.monotonic() - self.began
            self.console.print(f"[dim]{at:6.1f} s[/dim]  {text}", highlight=False, soft_wrap=True)

    def blow(self, blow: Blow, over: bool) -> None:
        """A fault begins, or is over."""
        if blow.impossible:
            self.say(f"{blow.name} cannot be made here: {blow.impossible}")
        elif not over:
            self.say(f"[red]{blow.name}[/red]")
        elif blow.healed > blow.began:
            self.say(f"[green]{blow.name} healed[/green] after {blow.healed - blow.began:.1f} s")

    async def run(self) -> None:
        """Draw until cancelled."""
        if self.quiet or not self.console.is_terminal:
            return
        with Live(console=self.console, refresh_per_second=4, transient=True) as live, suppress(asyncio.CancelledError):
            while True:
                live.update(self._drawn())
                await asyncio.sleep(_EVERY_S)

    def _drawn(self) -> Table:
        counts = self.evidence.counts()
        broken = [blow.name for blow in self.evidence.blows if blow.healed == float("inf")]
        table = Table.grid(padding=(0, 2))
        table.add_row("sent", f"{counts['sent']:,} of {self.messages:,}")
        table.add_row("accepted", f"{counts['accepted']:,}", "unknown", f"{counts['unknown']:,}")
        table.add_row("delivered", f"{counts['delivered']:,}", "reconnects", f"{counts['reconnects']:,}")
        table.add_row("broken now", f"[red]{', '.join(broken)}[/red]" if broken else "nothing")
        return table
