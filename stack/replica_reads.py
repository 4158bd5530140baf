"""Reads from PostgreSQL's replica, as the metrics of the processes that read from it show them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

READERS = ("ingest", "gateway", "audit")
"""Kinds of processes that read from the replica."""


def replica_reads(metrics: Iterable[str]) -> dict[str, Any] | None:
    """Return the greatest lag and the sums of the reads in these texts; None when no process has a replica."""
    values: dict[tuple[str, str], list[float]] = {}
    for text in metrics:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                values.setdefault((sample.name, sample.labels.get("server", "")), []).append(sample.value)
    lag = values.get(("millrace_pg_replica_lag_seconds", "replica"))
    if not lag:
        return None
    reads = {server: int(sum(values.get(("millrace_pg_reads_total", server), ()))) for server in ("replica", "primary")}
    return {
        "lagBytes": int(max(values.get(("millrace_pg_replica_lag_bytes", "replica"), (0,)))),
        "lagSeconds": round(max(lag), 1),
        "reads": reads,
    }


def in_words(found: dict[str, Any]) -> str:
    """Return a line about the replica."""
    from_replica, from_primary = found["reads"]["replica"], found["reads"]["primary"]
    behind = f"{found['lagSeconds']:g} s, {found['lagBytes']:,} bytes behind"
    return f"{behind}; answered {from_replica:,} of {from_replica + from_primary:,} reads"
