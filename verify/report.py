"""Reports of a trial, for programs and for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from verify.history import History
from verify.rules.violation import Violation

_SHOWN = 20


def report(history: History, found: Sequence[Violation], seconds: float) -> dict[str, Any]:
    """Return the report as JSON-compatible values."""
    sorts = Counter(violation.sort for violation in found)
    faults = [injected for injected in history.faults if not injected.impossible]
    began = min((injected.began for injected in history.faults), default=0.0)
    return {
        "kept": not found,
        "seed": history.seed,
        **history.counts(),
        **{sort: sorts[sort] for sort in ("lost", "doubled", "reordered", "wrong", "slow")},
        "quietAfterS": None if history.quiet_s is None else round(history.quiet_s, 1),
        "seconds": round(seconds, 1),
        "worstRecoveryS": round(max((b.recovery_s for b in faults if b.single), default=0.0), 1),
        "faults": [
            {
                "fault": injected.name,
                "atS": round(injected.began - began, 1),
                "lastedS": round(injected.healed - injected.began, 1),
                "recoveryS": round(injected.recovery_s, 1),
                "singleProcess": injected.single,
                **({"impossible": injected.impossible} if injected.impossible else {}),
            }
            for injected in history.faults
        ],
        "data": None,
        "violations": [{"invariant": v.invariant, "sort": v.sort, "text": v.text} for v in found],
    }


def show(values: dict[str, Any]) -> None:
    """Print the report as tables."""
    out = Console()
    if values["faults"]:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("fault", "at", "lasted", "recovered after"):
            table.add_column(column, justify="left" if column == "fault" else "right")
        for fault in values["faults"]:
            after = f"{fault['recoveryS']:.1f} s" if "impossible" not in fault else f"not made: {fault['impossible']}"
            table.add_row(fault["fault"], f"{fault['atS']:.1f} s", f"{fault['lastedS']:.1f} s", after)
        out.print(table, highlight=False)
        out.print()
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim")
    table.add_column()
    rows = {
        "sent": f"{values['sent']:,} messages in {values['tries']:,} requests",
        "accepted": f"{values['accepted']:,}",
        "unknown": f"{values['unknown']:,} (their clients cannot know)",
        "refused": f"{values['refused']:,} (as they should be)",
        "delivered": f"{values['delivered']:,} to screens; {values['repeats']:,} repeats on the wire dropped",
        "reconnects": f"{values['reconnects']:,}",
        "lost": values["lost"],
        "doubled on screen": values["doubled"],
        "reordered": values["reordered"],
        "other violations": values["wrong"] + values["slow"],
        "at rest": "not in time"
        if values["quietAfterS"] is None
        else f"{values['quietAfterS']} s after the last message",
        "slowest recovery": f"{values['worstRecoveryS']} s after the fault of one process",
        "took": f"{values['seconds']} s",
        "seed": values["seed"],
    }
    for name, value in rows.items():
        table.add_row(name, str(value))
    out.print(table, highlight=False)
    for violation in values["violations"][:_SHOWN]:
        out.print(f"  {violation['invariant']:6} {violation['text']}", highlight=False, markup=False, soft_wrap=True)
    if len(values["violations"]) > _SHOWN:
        out.print(f"  … and {len(values['violations']) - _SHOWN} more", highlight=False)
    out.print(f"\nthe promise was {'kept' if values['kept'] else 'BROKEN'}", highlight=False)
    if values["data"] is not None:
        out.print(f"evidence: {values['data']}", highlight=False, soft_wrap=True)
