"""Reports of a trial, for programs and for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from runtime.terminal import print_table, visible
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
    """Print the report as text."""
    if values["faults"]:
        faults = [
            (fault["fault"], f"{fault['atS']:.1f} s", f"{fault['lastedS']:.1f} s", _recovery(fault))
            for fault in values["faults"]
        ]
        print_table(("fault", "at", "lasted", "recovered after"), faults, right=("at", "lasted"))
        print()
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
        print(f"{name:18} {value}")
    for violation in values["violations"][:_SHOWN]:
        print(f"  {violation['invariant']:6} {visible(violation['text'])}")
    if len(values["violations"]) > _SHOWN:
        print(f"  … and {len(values['violations']) - _SHOWN} more")
    print(f"\nthe promise was {'kept' if values['kept'] else 'BROKEN'}")
    if values["data"] is not None:
        print(f"evidence: {values['data']}")


def _recovery(fault: dict[str, Any]) -> str:
    return f"{fault['recoveryS']:.1f} s" if "impossible" not in fault else f"not made: {fault['impossible']}"
