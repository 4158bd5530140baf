"""Reports of a trial, for programs and for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from runtime.terminal import print_table, visible
from verify.history import History
from verify.rules.violation import Violation

_SHOWN = 20
KEPT, BROKEN, UNTESTED = "kept", "broken", "not put to the test"
"""Verdicts. The promise was not put to the test when faults were wanted and none took effect."""
EXIT_CODES: Mapping[str, int] = {KEPT: 0, BROKEN: 1, UNTESTED: 2}


def report(history: History, found: Sequence[Violation], seconds: float) -> dict[str, Any]:
    """Return the report as JSON-compatible values."""
    verdict = _verdict(history, found)
    sorts = Counter(violation.sort for violation in found)
    faults = [injected for injected in history.faults if injected.took_effect]
    began = min((injected.began for injected in history.faults), default=0.0)
    return {
        "verdict": verdict,
        "kept": verdict == KEPT,
        "seed": history.seed,
        **history.counts(),
        **{sort: sorts[sort] for sort in ("lost", "doubled", "reordered", "wrong", "slow")},
        "quietAfterS": None if history.quiet_s is None else round(history.quiet_s, 1),
        "seconds": round(seconds, 1),
        "worstRecoveryS": round(max((b.recovery_s for b in faults if b.single), default=0.0), 1),
        "faultsPlanned": len(history.faults),
        "faultsTookEffect": sum(injected.took_effect for injected in history.faults),
        "faults": [
            {
                "fault": injected.name,
                "atS": round(injected.began - began, 1),
                "lastedS": round(injected.healed - injected.began, 1),
                "recoveryS": round(injected.recovery_s, 1),
                "singleProcess": injected.single,
                "tookEffect": injected.took_effect,
                "evidence": injected.evidence or None,
                **({"impossible": injected.impossible} if injected.impossible else {}),
            }
            for injected in history.faults
        ],
        "data": None,
        "violations": [{"invariant": v.invariant, "sort": v.sort, "text": v.text} for v in found],
    }


def _verdict(history: History, found: Sequence[Violation]) -> str:
    if found:
        return BROKEN
    return KEPT if not history.faults or any(injected.took_effect for injected in history.faults) else UNTESTED


def show(values: dict[str, Any]) -> None:
    """Print the report as text."""
    if values["faults"]:
        faults = [
            (fault["fault"], f"{fault['atS']:.1f} s", f"{fault['lastedS']:.1f} s", *_outcome(fault))
            for fault in values["faults"]
        ]
        print_table(("fault", "at", "lasted", "recovered after", "effect"), faults, right=("at", "lasted"))
        print()
    rows = {
        "faults": f"{values['faultsTookEffect']} of {values['faultsPlanned']} took effect",
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
    for reason, names in values.get("leftOut", {}).items():
        print(f"not drawn: {', '.join(names)}: {reason}")
    print(f"\nthe promise was {values['verdict'].upper() if values['verdict'] == BROKEN else values['verdict']}")
    if values["data"] is not None:
        print(f"evidence: {values['data']}")


def _outcome(fault: dict[str, Any]) -> tuple[str, str]:
    """Return the columns about recovery and effect."""
    if "impossible" in fault:
        return "", f"could not be made: {fault['impossible']}"
    return f"{fault['recoveryS']:.1f} s", fault["evidence"] or "none that is known"
