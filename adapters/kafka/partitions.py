"""Partition of a key: the one that its topic's declared count gives, whatever count the broker has by now."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from aiokafka.partitioner import murmur2

from schemas.topics import partition_count


@lru_cache(maxsize=65_536)
def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition of a key among so many; the same as the Java client's."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


def declared_partition(key: bytes, all_partitions: Sequence[int], _available: Sequence[int]) -> int:
    """Return the partition of a key among those of topics.yaml: the partitioner of every producer.

    Somebody may raise the count of a topic while all runs. By the new count most conversations would move to another
    partition, where their records overtake those that are still to be read. So none moves, and the new partitions stay
    empty.
    """
    return partition_of(key, min(partition_count(), len(all_partitions)))
