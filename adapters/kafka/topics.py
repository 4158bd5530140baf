"""Topics as they are declared and as the broker has them: the differences, and their removal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)

from adapters.kafka.admin import admin, describe_topics
from adapters.kafka.alter_configs import SetTopicConfigs, errors_of
from adapters.kafka.refusals import unavailable
from domain.errors import Conflict, Unavailable
from runtime.kafka_settings import Kafka
from schemas.topics import Topic

_log = structlog.get_logger()

_FINAL = {40: "invalid setting", 44: "refused by a policy"}
"""Errors of the broker that a retry meets again (Kafka protocol, error codes)."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting of which the broker has another value than declared; ``actual`` is None where it has none."""

    topic: str
    setting: str
    declared: str
    actual: str | None

    @property
    def can_be_applied(self) -> bool:
        """False for what needs more than a setting: partitions and replicas are moved by hand."""
        return self.setting not in ("partitions", "replication")


@dataclass(frozen=True, slots=True)
class TopicFound:
    """Topic as the broker has it, with all settings that hold for it."""

    name: str
    partitions: int
    replication: int
    settings: Mapping[str, str]


def settings_of(topic: Topic, replication: int | None) -> dict[str, str]:
    """Return the settings that are declared; ``replication`` lowers the replicas that an acknowledgement needs."""
    settings = topic.settings
    if replication is not None:
        wanted = int(settings.get("min.insync.replicas", "1"))
        settings["min.insync.replicas"] = str(max(1, min(wanted, replication)))
    return {name: value.lower() if value in ("True", "False") else value for name, value in settings.items()}


def differences(topic: Topic, found: TopicFound | None, replication: int | None) -> list[Difference]:
    """Return what the broker has not as declared. Settings that are not declared are the operator's. Pure."""
    wanted = {
        "partitions": str(topic.partitions),
        "replication": str(replication or topic.replication),
        **settings_of(topic, replication),
    }
    if found is None:
        return [Difference(topic.name, "topic", f"{topic.partitions} partitions", None)]
    have = {"partitions": str(found.partitions), "replication": str(found.replication), **found.settings}
    return [
        Difference(topic.name, name, value, have.get(name)) for name, value in wanted.items() if have.get(name) != value
    ]


async def inspect(kafka: Kafka, topics: Sequence[Topic]) -> dict[str, TopicFound]:
    """Return those of the topics that the broker has, with the settings that it uses. Raises Unavailable."""
    async with admin(kafka) as client:
        return await _inspect(client, topics)


async def _inspect(client: AIOKafkaAdminClient, topics: Sequence[Topic]) -> dict[str, TopicFound]:
    states = await describe_topics(client, [topic.name for topic in topics])
    there = [topic.name for topic in topics if topic.name in states]
    settings: dict[str, dict[str, str]] = {name: {} for name in there}
    if there:
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in there]
        for answer in await client.describe_configs(resources):
            for _, _, _, name, entries in answer.resources:
                settings[name] = {entry[0]: entry[1] for entry in entries}
    return {name: TopicFound(name, states[name].partitions, states[name].replication, settings[name]) for name in there}


async def plan(kafka: Kafka, topics: Sequence[Topic], *, replication: int | None = None) -> list[Difference]:
    """Return what ``apply`` would change, and what it cannot. Raises Unavailable."""
    found = await inspect(kafka, topics)
    return [each for topic in topics for each in differences(topic, found.get(topic.name), replication)]


async def apply(kafka: Kafka, topics: Sequence[Topic], *, replication: int | None = None) -> list[str]:
    """Bring the topics of the broker to their declarations; return one line for each thing done. Idempotent.

    ``replication`` overrides the declared one (and the replicas that an acknowledgement needs) where a broker is alone.
    Only settings that differ are set. A topic with more partitions than declared is left as it is: no record goes to
    the others. Raises Conflict when one has too few, since adding some would move conversations to other partitions,
    and when the broker refuses; Unavailable when it does not answer.
    """
    async with admin(kafka) as client:
        found = await _inspect(client, topics)
        for topic in topics:
            has = found.get(topic.name)
            if has is not None and has.partitions < topic.partitions:
                raise Conflict(
                    f"{topic.name} has {has.partitions} partitions, {topic.partitions} are declared;"
                    " a change would break the order of its conversations: drain it and create it again"
                )
        missing = [topic for topic in topics if topic.name not in found]
        if missing:
            await _create(client, missing, replication)
        changes = {
            topic.name: [d for d in differences(topic, found[topic.name], replication) if d.can_be_applied]
            for topic in topics
            if topic.name in found
        }
        changes = {name: changed for name, changed in changes.items() if changed}
        if changes:
            await _configure(client, changes)
    done = [f"created {topic.name}" for topic in missing]
    done += [f"{d.topic}: {d.setting} is {d.declared}, was {d.actual}" for changed in changes.values() for d in changed]
    return done


async def create_missing(kafka: Kafka, topics: Sequence[Topic], replication: int) -> None:
    """Create those of the topics that the broker does not have; leave the others alone.

    Raises Unavailable, Conflict.
    """
    async with admin(kafka) as client:
        there = await describe_topics(client, [topic.name for topic in topics])
        await _create(client, [topic for topic in topics if topic.name not in there], replication)


async def _create(client: AIOKafkaAdminClient, topics: Sequence[Topic], replication: int | None) -> None:
    new = [
        NewTopic(
            name=topic.name,
            num_partitions=topic.partitions,
            replication_factor=replication or topic.replication,
            topic_configs=settings_of(topic, replication),
        )
        for topic in topics
    ]
    answer = await client.create_topics(new)
    for row in getattr(answer, "topic_errors", []):
        if row[1] not in (0, TopicAlreadyExistsError.errno):
            raise _refused(row[0], row[1], row[2] if len(row) > 2 and row[2] else f"error {row[1]}")
    _log.debug("topics_created", topics=[topic.name for topic in topics])


async def _configure(client: AIOKafkaAdminClient, changes: Mapping[str, Sequence[Difference]]) -> None:
    settings = {name: {d.setting: d.declared for d in changed} for name, changed in changes.items()}
    for error in errors_of(await client._send_request(SetTopicConfigs(settings))):
        raise _refused(*error)
    _log.debug("topics_configured", topics=sorted(settings))


def _refused(topic: str, code: int, message: str) -> Conflict | Unavailable:
    if for_code(code) in (TopicAuthorizationFailedError, ClusterAuthorizationFailedError):
        return unavailable(for_code(code)(topic))
    return Conflict(f"{topic}: {_FINAL[code]}: {message}") if code in _FINAL else Unavailable(f"{topic}: {message}")
