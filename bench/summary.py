"""Table of all results in a folder."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

import orjson

NAME = "README.md"


def write(folder: Path) -> None:
    """Write the table anew from the results in the folder."""
    results = [orjson.loads(file.read_bytes()) for file in sorted(folder.glob("*.json"))]
    (folder / NAME).write_text(table(results))


def table(results: list[dict[str, Any]]) -> str:
    """Return the results as a Markdown page."""
    head = (
        "# Results\n\nWritten by `make bench`; [docs/performance.md](../../docs/performance.md) says what each line "
        "means. A ratio is the median of the pairs, with the least and the most.\n\n"
        "| | ratio | wanted | | ours | reference | pairs | load | at |\n|---|---|---|---|---|---|---|---|---|\n"
    )
    return head + "".join(map(_row, results)) + _on(results)


def _row(result: dict[str, Any]) -> str:
    kept = [pair for pair in result["pairs"] if pair["kept"]]
    ours, reference = (median(pair[side] for pair in kept) for side in ("ours", "reference"))
    loads = [pair["load"] for pair in result["pairs"]]
    cells = (
        f"[{result['name']}]({result['name']}.json): {result['title']}",
        f"**{result['ratio']:.2f}** ({result['min']:.2f}-{result['max']:.2f})",
        f"{result['wanted']} {result['target']:g}",
        "reached" if result["reached"] else "missed",
        f"{_short(ours)} {result['unit']}",
        f"{_short(reference)}: {result['reference']}",
        f"{len(kept)} of {len(result['pairs'])}",
        f"{min(loads):.1f}-{max(loads):.1f}",
        result["at"][:16],
    )
    more = "; ".join(f"{key}: {value}" for key, value in result["more"].items())
    lines = [*map(_point, result.get("points", ())), *([more] if more else [])]
    return f"| {' | '.join(cells)} |\n" + "".join(f"| | {line} | | | | | | | |\n" for line in lines)


def _point(point: dict[str, Any]) -> str:
    return f"{point['at']}: **{point['ratio']:.2f}** ({_short(point['ours'])} and {_short(point['reference'])})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.3f}"


def _on(results: list[dict[str, Any]]) -> str:
    machines = {_described(r["machine"]) for r in results}
    return f"\nMeasured on: {'; '.join(sorted(machines))}.\n"


def _described(machine: dict[str, Any]) -> str:
    build = f" ({machine['build']} build)" if "build" in machine else ""
    others = [
        f"{name} {machine[name]}" for name in ("postgresql", "valkey", "kafka", "java", "node") if name in machine
    ]
    return ", ".join([f"{machine['cpu']}", f"{machine['cores']} cores", f"Python {machine['python']}{build}", *others])
