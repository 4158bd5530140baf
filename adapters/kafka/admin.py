"""Administration of a broker: its topics, positions of groups, lag."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError

from adapters.kafka.access import access
from adapters.kafka.closing import close
from adapters.kafka.group_offsets import group_offsets
from adapters.kafka.metadata import partitions_of
from adapters.kafka.refusals import unavailable
from domain.errors import AccessRefused, Unavailable
from runtime.kafka_settings import Kafka

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class TopicState:
    """Topic as the broker has it."""

    name: str
    partitions: int
    replication: int


@dataclass(frozen=True, slots=True)
class GroupState:
    """Consumer group; ``lag`` by topic, in records."""

    group: str
    state: str
    members: int
    lag: Mapping[str, int]


@asynccontextmanager
async def admin(kafka: Kafka) -> AsyncIterator[AIOKafkaAdminClient]:
    """Yield a client that is connected. Errors of the broker become Unavailable."""
    client = AIOKafkaAdminClient(**access(kafka), request_timeout_ms=10_000)
    try:
        async with asyncio.timeout(15):
            await client.start()
        yield client
    except (KafkaError, TimeoutError, OSError) as exc:
        raise unavailable(exc, where=f"Kafka at {kafka.bootstrap}") from exc
    finally:
        await close(client.close())


async def topic_rows(client: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, Any]:
    """Return those of the topics that the broker has, as its metadata shows them, by name.

    Raises TopicAuthorizationFailedError for topics that the user may not see: they are not just missing.
    """
    rows = {row["topic"]: row for row in await client.describe_topics(list(names))} if names else {}
    if hidden := {name for name, row in rows.items() if row["error_code"] == TopicAuthorizationFailedError.errno}:
        raise TopicAuthorizationFailedError(hidden)
    return {name: row for name, row in rows.items() if row["partitions"]}


async def describe_topics(client: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, TopicState]:
    """Return those of the topics that the broker has, by name. Raises TopicAuthorizationFailedError."""
    return {
        name: TopicState(name, len(row["partitions"]), min(len(p["replicas"]) for p in row["partitions"]))
        for name, row in (await topic_rows(client, names)).items()
    }


async def describe(kafka: Kafka, names: Sequence[str]) -> dict[str, TopicState]:
    """Return those of the topics that the broker has, by name. Raises Unavailable."""
    async with admin(kafka) as client:
        return await describe_topics(client, names)


async def broker_count(kafka: Kafka) -> int:
    """Return the number of brokers that the cluster has now. Raises Unavailable."""
    async with admin(kafka) as client:
        return len((await client.describe_cluster())["brokers"])


async def leaders(kafka: Kafka) -> Counter[int]:
    """Return the number of partitions that each broker leads, by its node id. Raises Unavailable."""
    async with admin(kafka) as client:
        rows = await client.describe_topics()
    return Counter(partition["leader"] for row in rows for partition in row["partitions"])


async def wait_for_topics(kafka: Kafka, names: Sequence[str], timeout_s: float) -> None:
    """Return once the broker has all these topics. Raises Unavailable after ``timeout_s``, AccessRefused at once."""
    loop = asyncio.get_running_loop()
    deadline, noted = loop.time() + timeout_s, ""
    while True:
        try:
            missing = set(names) - (await describe(kafka, names)).keys()
            reason = f"topics missing on {kafka.bootstrap}: {', '.join(sorted(missing))}; run `millrace topics apply`"
        except AccessRefused:
            raise
        except Unavailable as exc:
            missing, reason = set(names), str(exc)
        if not missing:
            return
        if loop.time() > deadline:
            raise Unavailable(reason)
        if noted != reason:
            noted = reason
            _log.info("topics_awaited", reason=reason)
        await asyncio.sleep(0.1)


async def groups_lag(kafka: Kafka, groups: Mapping[str, Sequence[str]]) -> list[GroupState]:
    """Return state, members and lag of each group. ``groups``: group → topics that it reads. Raises Unavailable."""
    async with admin(kafka) as client:
        ends = await _end_offsets(kafka, sorted({t for topics in groups.values() for t in topics}))
        return [await _group(client, group, topics, ends) for group, topics in groups.items()]


async def _group(
    client: AIOKafkaAdminClient,
    group: str,
    topics: Sequence[str],
    ends: Mapping[TopicPartition, tuple[int, int]],
) -> GroupState:
    [answer] = await client.describe_consumer_groups([group])
    _, _, state, _, _, members, *_ = answer.groups[0]
    mine = [tp for tp in ends if tp.topic in topics]
    committed = await group_offsets(client, group, mine)
    lag = dict.fromkeys(topics, 0)
    for tp in mine:
        begin, end = ends[tp]
        at = committed[tp]
        lag[tp.topic] += max(0, end - (at if at >= 0 else begin))  # the group may have committed more since
    return GroupState(group, state or "Unknown", len(members), lag)


async def committed(kafka: Kafka, groups: Sequence[str], topic: str) -> dict[str, dict[int, int]]:
    """Return the committed offsets of a topic: group → partition → offset, where there is one. Raises Unavailable."""
    async with admin(kafka) as client:
        [described] = await client.describe_topics([topic])
        places = [TopicPartition(topic, each["partition"]) for each in described["partitions"]]
        answers = [await group_offsets(client, group, places) for group in groups]
    return {
        group: {tp.partition: at for tp, at in answer.items() if at >= 0}
        for group, answer in zip(groups, answers, strict=True)
    }


async def _end_offsets(kafka: Kafka, topics: Sequence[str]) -> dict[TopicPartition, tuple[int, int]]:
    consumer = AIOKafkaConsumer(**access(kafka))
    try:
        async with asyncio.timeout(15):
            await consumer.start()
            tps = [place for places in (await partitions_of(consumer, topics)).values() for place in places]
            if not tps:
                return {}
            begins, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
            return {tp: (begins[tp], ends[tp]) for tp in tps}
    finally:
        await close(consumer.stop())
