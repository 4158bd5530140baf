"""Connections that die under uvloop: there a write to one is a RuntimeError, which aiokafka does not expect.

It ends the task that reads, or the one that keeps the group together, without a word, and the consumer is deaf from
then on (aiokafka #1038). For aiokafka 0.14.0 exactly.
"""

from __future__ import annotations

from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError

_send = AIOKafkaConnection.send


def mend() -> None:
    """Make a write to a dead connection what it is without uvloop: a lost connection. Done again it does nothing."""
    AIOKafkaConnection.send = _send_or_lose


def _send_or_lose(self: AIOKafkaConnection, request: Any, expect_response: bool = True) -> Any:
    try:
        return _send(self, request, expect_response)
    except RuntimeError as exc:
        self.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"the connection to {self.host}:{self.port} has died") from exc
