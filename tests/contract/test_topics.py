"""Topics of a real broker: what differs from the declarations is shown and set, and nothing else is touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from adapters.kafka.admin import admin
from adapters.kafka.alter_configs import SetTopicConfigs, errors_of
from adapters.kafka.topics import Difference, apply, differences, inspect, plan, settings_of
from domain.errors import Conflict, Unavailable
from runtime.kafka_settings import Kafka
from schemas.ids import new_id
from schemas.topics import Topic, load
from stack.ports import allot

DECLARED = next(topic for topic in load() if topic.name == "message.created")


@pytest.fixture
def topic() -> Iterator[Topic]:
    yield replace(DECLARED, name=f"test.{new_id()}", partitions=2)


async def set_by_hand(kafka: Kafka, topic: Topic, **settings: str) -> None:
    async with admin(kafka) as client:
        named = {name.replace("_", "."): value for name, value in settings.items()}
        assert not errors_of(await client._send_request(SetTopicConfigs({topic.name: named})))


async def test_a_missing_topic_is_planned_made_and_then_as_declared(kafka: Kafka, topic: Topic):
    assert await plan(kafka, [topic], replication=1) == [Difference(topic.name, "topic", "2 partitions", None)]
    assert await apply(kafka, [topic], replication=1) == [f"created {topic.name}"]
    assert await plan(kafka, [topic], replication=1) == []
    assert await apply(kafka, [topic], replication=1) == []
    found = (await inspect(kafka, [topic]))[topic.name]
    assert (found.partitions, found.replication) == (2, 1)
    assert settings_of(topic, 1).items() <= found.settings.items()
    assert "compression.type" in found.settings  # what is not declared is shown too


async def test_apply_sets_what_differs_and_keeps_what_an_operator_has_set(kafka: Kafka, topic: Topic):
    await apply(kafka, [topic], replication=1)
    await set_by_hand(kafka, topic, retention_ms="1000", compression_type="lz4")
    assert [(d.setting, d.actual) for d in await plan(kafka, [topic], replication=1)] == [("retention.ms", "1000")]
    done = await apply(kafka, [topic], replication=1)
    assert done == [f"{topic.name}: retention.ms is {topic.retention_ms}, was 1000"]
    found = (await inspect(kafka, [topic]))[topic.name].settings
    assert found["retention.ms"] == str(topic.retention_ms)
    assert found["compression.type"] == "lz4"


async def test_partitions_and_replicas_differ_and_are_not_applied(kafka: Kafka, topic: Topic):
    await apply(kafka, [topic], replication=1)
    client = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await client.start()
    await client.create_partitions({topic.name: NewPartitions(3)})
    await client.close()
    found = {d.setting: d for d in await plan(kafka, [topic])}
    assert (found["partitions"].declared, found["partitions"].actual) == ("2", "3")
    assert (found["replication"].declared, found["replication"].actual) == ("3", "1")
    assert not found["partitions"].can_be_applied and not found["replication"].can_be_applied
    assert await apply(kafka, [topic], replication=1) == []  # the third one stays empty: nobody writes to it
    with pytest.raises(Conflict, match="has 3 partitions, 4 are declared"):
        await apply(kafka, [replace(topic, partitions=4)], replication=1)


async def test_a_setting_that_the_broker_refuses_is_a_clear_error(kafka: Kafka, topic: Topic):
    await apply(kafka, [topic], replication=1)
    wrong = replace(topic, config=(*topic.config, ("retention.bytes", "many")))
    with pytest.raises(Conflict, match=f"{topic.name}: invalid setting"):
        await apply(kafka, [wrong], replication=1)


async def test_no_broker_is_unavailable(topic: Topic):
    [port] = allot(["nobody"], {}, {}).values()
    with pytest.raises(Unavailable, match="does not answer"):
        await plan(Kafka(bootstrap=f"127.0.0.1:{port}"), [topic])


def test_differences_know_only_declared_settings():
    assert [d.setting for d in differences(DECLARED, None, 1)] == ["topic"]


async def test_the_commands_tell_the_truth(kafka: Kafka):
    await apply(kafka, load(), replication=1)
    await set_by_hand(kafka, DECLARED, segment_ms="604800000")
    try:
        listed = {row["topic"]: row for row in json.loads(millrace(kafka, "list", "--json").stdout)}
        assert listed["message.created"]["state"] == "differs"
        assert listed["message.created"]["settings"]["segment.ms"] == "604800000"
        assert "segment.ms" in [each["setting"] for each in listed["message.created"]["differences"]]
        planned = millrace(kafka, "plan", "--replication", "1")
        assert planned.returncode == 2
        assert "message.created\tsegment.ms\t604800000\t86400000\tby apply" in planned.stdout.splitlines()
    finally:
        applied = millrace(kafka, "apply", "--replication", "1")
    assert applied.stdout.strip() == "message.created: segment.ms is 86400000, was 604800000"
    after = millrace(kafka, "plan", "--replication", "1")
    assert (after.returncode, after.stdout.splitlines()) == (0, ["topic\tsetting\tbroker\ttopics.yaml\tchanged"])


def millrace(kafka: Kafka, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli.main", "topics", *words, "--bootstrap", kafka.bootstrap]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "80"}, check=False)
