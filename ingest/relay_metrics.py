"""Metrics of what the relay finds out about the log."""

from __future__ import annotations

from collections.abc import Mapping

from domain.outbox import Loss
from runtime.metrics import LOG_LOSSES, PARTITIONS_DIFFER, REPUBLISHED


def count_loss(loss: Loss) -> None:
    """Count a loss of the log, and what is owed again after it."""
    LOG_LOSSES.inc()
    REPUBLISHED.inc(loss.rows)


def show_partitions(declared: Mapping[str, int], differing: Mapping[str, int]) -> None:
    """Show the topics that have another number of partitions than declared."""
    PARTITIONS_DIFFER.clear()
    for topic, found in differing.items():
        PARTITIONS_DIFFER.labels(topic).set(found - declared[topic])
