"""Reports of a trial, for programs and for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runtime.terminal import print_table, visible
from verify.edges import RULES, Recovery
from verify.history import History, InjectedFault
from verify.latencies import latencies
from verify.rules.violation import Violation

_SHOWN = 20
KEPT, BROKEN, UNTESTED = "kept", "broken", "not put to the test"
"""Verdicts. The promise was not put to the test when faults were wanted and none took effect."""
EXIT_CODES: Mapping[str, int] = {KEPT: 0, BROKEN: 1, UNTESTED: 2}


def report(history: History, found: Sequence[Violation], seconds: float) -> dict[str, Any]:
    """Return the report as JSON-compatible values."""
    verdict = _verdict(history, found)
    sorts = Counter(violation.sort for violation in found)
    began = min((injected.began for injected in history.faults), default=0.0)
    faults = [_fault(injected, began) for injected in history.faults]
    return {
        "verdict": verdict,
        "kept": verdict == KEPT,
        "seed": history.seed,
        **history.counts(),
        **{sort: sorts[sort] for sort in ("lost", "doubled", "reordered", "wrong", "slow")},
        "quietAfterS": None if history.quiet_s is None else round(history.quiet_s, 1),
        "seconds": round(seconds, 1),
        "worstRecoveryS": max((fault["recoveryS"] for fault in faults if fault["singleProcess"]), default=0.0),
        "slowdown": round(history.slowdown.mean, 1),
        "worstSlowdown": round(history.slowdown.worst, 1),
        "timesJudged": history.slowdown.is_bearable,
        "faultsPlanned": len(history.faults),
        "faultsTookEffect": sum(injected.took_effect for injected in history.faults),
        "faults": faults,
        "edges": {
            edge: {
                "messages": latency.count,
                "p50S": round(latency.median_s, 3),
                "p99S": round(latency.p99_s, 3),
                "maxS": round(latency.most_s, 3),
                "lateAfterS": RULES[edge].late_s,
                "worstRecovery": _worst(faults, edge),
            }
            for edge, latency in latencies(history).items()
        },
        "data": None,
        "violations": [{"invariant": v.invariant, "sort": v.sort, "text": v.text} for v in found],
    }


def _verdict(history: History, found: Sequence[Violation]) -> str:
    if found:
        return BROKEN
    return KEPT if not history.faults or any(injected.took_effect for injected in history.faults) else UNTESTED


def _fault(injected: InjectedFault, began: float) -> dict[str, Any]:
    return {
        "fault": injected.name,
        "atS": round(injected.began - began, 1),
        "lastedS": round(injected.healed - injected.began, 1),
        "recoveryS": round(max((each.after_end_s for each in injected.recoveries.values()), default=0.0), 1),
        "recoveries": {edge: _recovery(each) for edge, each in injected.recoveries.items()},
        "singleProcess": injected.single,
        "tookEffect": injected.took_effect,
        "evidence": injected.evidence or None,
        **({"impossible": injected.impossible} if injected.impossible else {}),
    }


def _recovery(recovery: Recovery) -> dict[str, Any]:
    return {
        "firstS": round(recovery.first_s, 1),
        "lastS": round(recovery.last_s, 1),
        "afterEndS": round(recovery.after_end_s, 1),
        "overdueS": round(recovery.overdue_s, 1),
        "overlaps": list(recovery.overlaps),
        "isOver": recovery.is_over,
    }


def _worst(faults: Sequence[dict[str, Any]], edge: str) -> dict[str, Any] | None:
    """Return the longest lateness on an edge after the end of a fault."""
    found = [
        (fault["recoveries"][edge]["afterEndS"], fault["fault"]) for fault in faults if edge in fault["recoveries"]
    ]
    after_end_s, name = max(found, default=(0.0, ""))
    return {"fault": name, "afterEndS": after_end_s} if found else None


def show(values: dict[str, Any]) -> None:
    """Print the report as text."""
    if values["faults"]:
        faults = [_injected(fault) for fault in values["faults"]]
        print_table(("fault", "at", "lasted", "effect", "messages were late"), faults, right=("at", "lasted"))
        print()
    if values["edges"]:
        rows = [_edge(name, edge) for name, edge in values["edges"].items()]
        headings = ("without a fault", "messages", "p50", "p99", "max", "longest lateness after a fault")
        print_table(headings, rows, right=headings[1:-1])
        print()
    for name, value in _rows(values).items():
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


def _rows(values: dict[str, Any]) -> dict[str, object]:
    quiet = values["quietAfterS"]
    return {
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
        "at rest": "not in time" if quiet is None else f"{quiet} s after the last message",
        "slowest recovery": f"{values['worstRecoveryS']} s after the end of a fault of one process",
        "machine": _machine(values),
        "took": f"{values['seconds']} s",
        "seed": values["seed"],
    }


def _machine(values: dict[str, Any]) -> str:
    text = f"everything takes {values['slowdown']:.1f} times as long as on an idle one"
    return text if values["timesJudged"] else f"{text}: too busy to judge times"


def _edge(name: str, edge: dict[str, Any]) -> tuple[str, ...]:
    worst = edge["worstRecovery"]
    times = (f"{edge[each]:.2f} s" for each in ("p50S", "p99S", "maxS"))
    return (name, f"{edge['messages']:,}", *times, f"{worst['afterEndS']:.1f} s, {worst['fault']}" if worst else "-")


def _injected(fault: dict[str, Any]) -> tuple[str, ...]:
    lasted = f"{fault['lastedS']:.1f} s" if fault["lastedS"] else "-"
    effect = fault["evidence"] or "none that is known"
    if "impossible" in fault:
        effect = f"could not be made: {fault['impossible']}"
    return fault["fault"], f"{fault['atS']:.1f} s", lasted, effect, _recovered(fault) if fault["tookEffect"] else ""


def _recovered(fault: dict[str, Any]) -> str:
    """Return on which edges messages were late, until when, and whether another fault may be the cause."""
    return "; ".join(_late(fault, edge, recovery) for edge, recovery in fault["recoveries"].items()) or "nowhere"


def _late(fault: dict[str, Any], edge: str, recovery: dict[str, Any]) -> str:
    return " ".join([edge, *_until(recovery, lasting=bool(fault["lastedS"]))])


def _until(recovery: dict[str, Any], *, lasting: bool) -> Iterator[str]:
    if not recovery["isOver"]:
        yield "for ever"
    elif not lasting:
        yield f"{recovery['lastS']:.1f} s"
    elif recovery["afterEndS"]:
        yield f"until {recovery['afterEndS']:.1f} s after its end"
    else:
        yield f"from {recovery['firstS']:.1f} to {recovery['lastS']:.1f} s"
    if recovery["overlaps"]:
        yield f"(beside {', '.join(recovery['overlaps'])})"
