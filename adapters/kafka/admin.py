"""Administration of a broker: its topics, positions of groups, lag."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from domain.errors import Unavailable

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
async def admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """Yield a client that is connected. Errors of the broker become Unavailable."""
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=10_000)
    try:
        async with asyncio.timeout(15):
            await client.start()
        yield client
    except (KafkaError, TimeoutError, OSError) as exc:
        raise Unavailable(f"Kafka at {bootstrap} does not answer") from exc
    finally:
        await client.close()


async def describe_topics(client: AIOKafkaAdminClient) -> dict[str, TopicState]:
    """Return the broker's topics by name."""
    return {
        row["topic"]: TopicState(
            row["topic"],
            len(row["partitions"]),
            min((len(p["replicas"]) for p in row["partitions"]), default=0),
        )
        for row in await client.describe_topics()
    }


async def describe(bootstrap: str) -> dict[str, TopicState]:
    """Return the broker's topics by name. Raises Unavailable."""
    async with admin(bootstrap) as client:
        return await describe_topics(client)


async def leaders(bootstrap: str) -> Counter[int]:
    """Return the number of partitions that each broker leads, by its node id. Raises Unavailable."""
    async with admin(bootstrap) as client:
        rows = await client.describe_topics()
    return Counter(partition["leader"] for row in rows for partition in row["partitions"])


async def wait_for_topics(bootstrap: str, names: Sequence[str], timeout_s: float) -> None:
    """Return once the broker has all these topics. Raises Unavailable after ``timeout_s``."""
    loop = asyncio.get_running_loop()
    deadline, awaited = loop.time() + timeout_s, False
    while True:
        try:
            missing = set(names) - (await describe(bootstrap)).keys()
        except Unavailable:
            missing = set(names)
        if not missing:
            return
        if loop.time() > deadline:
            raise Unavailable(
                f"topics missing on {bootstrap}: {', '.join(sorted(missing))}; run `millrace topics apply`"
            )
        if not awaited:
            awaited = True
            _log.debug("topics_awaited", topics=sorted(missing), reason="the broker does not answer, or lacks them")
        await asyncio.sleep(0.1)


async def groups_lag(bootstrap: str, groups: Mapping[str, Sequence[str]]) -> list[GroupState]:
    """Return state, members and lag of each group. ``groups``: group → topics that it reads. Raises Unavailable."""
    async with admin(bootstrap) as client:
        ends = await _end_offsets(bootstrap, sorted({t for topics in groups.values() for t in topics}))
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
    committed = await client.list_consumer_group_offsets(group, partitions=mine) if mine else {}
    lag = dict.fromkeys(topics, 0)
    for tp in mine:
        begin, end = ends[tp]
        at = committed[tp].offset if tp in committed else -1
        lag[tp.topic] += max(0, end - (at if at >= 0 else begin))  # the group may have committed more since
    return GroupState(group, state or "Unknown", len(members), lag)


async def committed(bootstrap: str, groups: Sequence[str], topic: str) -> dict[str, dict[int, int]]:
    """Return the committed offsets of a topic: group → partition → offset, where there is one. Raises Unavailable."""
    async with admin(bootstrap) as client:
        answers = [await client.list_consumer_group_offsets(group) for group in groups]
    return {
        group: {tp.partition: at.offset for tp, at in answer.items() if tp.topic == topic and at.offset >= 0}
        for group, answer in zip(groups, answers, strict=True)
    }


async def _end_offsets(bootstrap: str, topics: Sequence[str]) -> dict[TopicPartition, tuple[int, int]]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    try:
        async with asyncio.timeout(15):
            await consumer.start()
            tps = []
            for topic in topics:
                await consumer._client.add_topic(topic)
            await consumer._client.force_metadata_update()
            for topic in topics:
                tps += [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic) or ()]
            if not tps:
                return {}
            begins, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
            return {tp: (begins[tp], ends[tp]) for tp in tps}
    finally:
        await consumer.stop()
