"""Dead letters of one stage in Kafka, and how far the stage has come with its retries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adapters.kafka.admin import committed
from adapters.kafka.consumer import Received, read_topic
from runtime.kafka_settings import Kafka
from schemas.topics import dead_letter_topic, retry_topic


@dataclass(frozen=True, slots=True)
class KafkaLetters:
    """LetterLog of one stage in Kafka."""

    kafka: Kafka
    stage: str

    async def letters(self) -> Sequence[Received]:
        return await read_topic(self.kafka, dead_letter_topic(self.stage))

    async def reached(self) -> Mapping[str, int]:
        topic = retry_topic(self.stage)
        offsets = (await committed(self.kafka, [self.stage], topic))[self.stage]
        return {f"{topic}/{partition}": offset for partition, offset in offsets.items()}
