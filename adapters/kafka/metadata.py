"""Partitions of topics for a consumer without a group, from the broker's metadata."""

from __future__ import annotations

from collections.abc import Iterable

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import TopicAuthorizationFailedError


async def partitions_of(consumer: AIOKafkaConsumer, topics: Iterable[str]) -> dict[str, list[TopicPartition]]:
    """Return the partitions of each topic, none for one that the broker does not have.

    Raises TopicAuthorizationFailedError: a topic that the user may not see is not just missing.
    """
    names = list(topics)
    for name in names:
        await consumer._client.add_topic(name)
    await consumer._client.force_metadata_update()
    if hidden := consumer._client.cluster.unauthorized_topics.intersection(names):
        raise TopicAuthorizationFailedError(hidden)
    return {
        name: [TopicPartition(name, number) for number in sorted(consumer.partitions_for_topic(name) or ())]
        for name in names
    }
