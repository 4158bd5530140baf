"""Committed offsets of a consumer group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError


async def group_offsets(
    client: AIOKafkaAdminClient, group: str, places: Sequence[TopicPartition]
) -> Mapping[TopicPartition, int]:
    """Return the committed offset of each of these partitions, -1 where there is none. Raises KafkaError.

    The coordinator of a group answers with an error and without partitions while it loads the group, as after a
    restart. aiokafka takes that for an answer.
    """
    if not places:
        return {}
    found = await client.list_consumer_group_offsets(group, partitions=list(places))
    if missing := set(places) - found.keys():
        raise GroupCoordinatorNotAvailableError(f"no offsets of {len(missing)} partitions")
    return {place: found[place].offset for place in places}
