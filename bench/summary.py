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
    return f"| {' | '.join(cells)} |\n" + (f"| | {more} | | | | | | | |\n" if more else "")


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _on(results: list[dict[str, Any]]) -> str:
    machines = {(r["machine"]["cpu"], r["machine"]["cores"], r["machine"]["python"]) for r in results}
    lines = [f"{cpu}, {cores} cores, Python {python}" for cpu, cores, python in sorted(machines)]
    return f"\nMeasured on: {'; '.join(lines)}.\n"
