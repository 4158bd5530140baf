"""Reports as text for people and as JSON for programs."""

from __future__ import annotations

from collections import Counter
from typing import Any

from audit.findings import Check, Finding, Kind, Remedy, Report
from audit.topic_checks import STAGE
from runtime.terminal import print_table, visible

SHOWN = 20
"""Most findings shown for each check; the total is always shown."""
_LISTED = 200
_OTHER = (Kind.PHANTOM, Kind.DIFFERENT, Kind.LATE)

_ADVICE = {
    Kind.LATE: "late: nothing is lost, something does not keep up. `millrace agents list` and `millrace status` show"
    " what, `millrace logs NAME` why",
    Kind.OUT_OF_ORDER: "out of order: a log cannot be mended. Clients are still given seq order; keep this report and"
    " look for a second writer of that topic or shard",
    Kind.PHANTOM: "phantom: somebody else wrote it, or rows were deleted. Find the writer; nothing is deleted here",
    Kind.DIFFERENT: "different: the store is right. Find who changed the other one",
    Kind.DOUBLED: "doubled: see the ids",
    Kind.MISSING: "missing: keep this report, and look into the logs of that time",
}
_HEALS = {
    Remedy.REPUBLISH: "`millrace audit --heal` lets the relay publish {n} message{s} again; every stage takes repeats",
    Remedy.REFRESH: "`millrace audit --heal` refreshes {n} message{s}: statuses and search documents, from the store",
    Remedy.RECOUNT: "`millrace audit --heal` counts {n} conversation{s} anew from the messages",
}


def show(report: Report, window: str, healed: dict[str, int] | None, seconds: float) -> None:
    """Print a line for each check, then the findings, then what to do."""
    _print_checks(report)
    for line in notes(report):
        print(f"note  {visible(line)}")
    for name, check in report.checks.items():
        if any(check.found.values()):
            _print_findings(name, [f for f in report.findings if f.check == name])
    verdict = "clean" if report.clean else f"{report.total} finding{_s(report.total)}"
    print(f"\n{verdict}  {window}, {seconds:.1f} s")
    for line in advice(report, healed):
        print(f"  {line}")


def _print_checks(report: Report) -> None:
    numbers = ("checked", "missing", "doubled", "out of order", "other", "waiting")
    rows = []
    for check in report.checks.values():
        counts = [check.found[kind] for kind in (Kind.MISSING, Kind.DOUBLED, Kind.OUT_OF_ORDER)]
        rows.append((check.name, check.checked, *counts, sum(check.found[kind] for kind in _OTHER), check.waiting))
    print_table(("check", *numbers), rows, right=numbers)


def _print_findings(name: str, findings: list[Finding]) -> None:
    total = sum(finding.count for finding in findings)
    print(f"\n{name}: {total} finding{_s(total)}")
    for finding in findings[:SHOWN]:
        print(visible(f"  {finding.kind}  {_place(finding)}{finding.text}"))
    if len(findings) > SHOWN:
        print(f"  … and {len(findings) - SHOWN} more; --json lists up to {_LISTED}")


def _place(finding: Finding) -> str:
    names = {"conversation": finding.conversation_id, "seq": finding.seq, "message": finding.message_id}
    place = " ".join(f"{name} {value}" for name, value in names.items() if value is not None)
    return f"{place}: " if place else ""


def notes(report: Report) -> list[str]:
    """Return lines on what is worth knowing and is no finding."""
    lines = [line for check in report.checks.values() for line in _notes(check)]
    lines += report.remarks
    for stage, count in report.letters.items():
        lines.append(f"{stage}.dlq: {count} dead letter{_s(count)} in this window")
    return lines


def _notes(check: Check) -> list[str]:
    lines = {
        f"{check.repeats} repeat{_s(check.repeats)}; readers drop them": check.repeats,
        f"{check.unread} unreadable record{_s(check.unread)}; the stages set such aside": check.unread,
        f"{check.aside} set aside in {STAGE.get(check.name, check.name)}.dlq: not missing": check.aside,
        f"{check.before_log} older than the log of this topic, which was emptied or trimmed: not judged": (
            check.before_log
        ),
    }
    return [f"{check.name}: {line}" for line, count in lines.items() if count]


def advice(report: Report, healed: dict[str, int] | None = None) -> list[str]:
    """Return a line for each kind of finding: what to do, or what ``--heal`` has done."""
    todo = [_HEALS[remedy].format(n=len(ids), s=_s(len(ids))) for remedy, ids in plan(report).items() if ids]
    lines = todo if healed is None else [_done(healed)]
    rest = {f.kind for f in report.findings if f.remedy is Remedy.NONE}
    return lines + [line for kind, line in _ADVICE.items() if kind in rest]


def plan(report: Report) -> dict[Remedy, list[str]]:
    """Return the ids for ``--heal``: of messages to publish again or to refresh, of conversations to count anew."""
    healable = [f for f in report.findings if f.remedy is not Remedy.NONE]
    about = {
        Remedy.REPUBLISH: [f.message_id for f in healable if f.remedy is Remedy.REPUBLISH],
        Remedy.REFRESH: [f.message_id for f in healable if f.remedy is Remedy.REFRESH],
        Remedy.RECOUNT: [f.conversation_id for f in healable if f.remedy is Remedy.RECOUNT],
    }
    return {remedy: [id_ for id_ in dict.fromkeys(ids) if id_] for remedy, ids in about.items()}


def _done(healed: dict[str, int]) -> str:
    if not any(healed.values()):
        return "nothing healed: none of it can be, or the relay owes it already"
    return (
        f"healed: {healed['republished']} message{_s(healed['republished'])} given to the relay again,"
        f" {healed['refreshed']} refreshed,"
        f" {healed['recounted']} minute{_s(healed['recounted'])} counted anew; audit again in a moment"
    )


def as_json(report: Report, window: dict[str, Any], healed: dict[str, int] | None, seconds: float) -> dict[str, Any]:
    """Return the report as a JSON object."""
    return {
        "clean": report.clean,
        "window": window,
        "seconds": round(seconds, 3),
        "checks": [_check(check) for check in report.checks.values()],
        "total": report.total,
        "findings": [_finding(finding) for finding in report.findings[:_LISTED]],
        "notes": notes(report),
        "healed": healed,
        "advice": advice(report, healed),
    }


def _check(check: Check) -> dict[str, Any]:
    counts: Counter[Kind] = check.found
    return {
        "check": check.name,
        "checked": check.checked,
        **{_camel(kind): counts[kind] for kind in Kind},
        "waiting": check.waiting,
        "setAside": check.aside,
        "repeats": check.repeats,
        "beforeLog": check.before_log,
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "check": finding.check,
        "kind": finding.kind.value,
        "conversationId": finding.conversation_id,
        "seq": finding.seq,
        "messageId": finding.message_id,
        "text": finding.text,
        "count": finding.count,
        "remedy": finding.remedy.value,
    }


def _camel(kind: Kind) -> str:
    first, *rest = kind.value.split()
    return first + "".join(word.title() for word in rest)


def _s(number: int) -> str:
    return "" if number == 1 else "s"
