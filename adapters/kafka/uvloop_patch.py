"""Patch for dead connections under uvloop: a write to one raises RuntimeError, which aiokafka does not expect.

The error silently ends the task that fetches, or the one that sends heartbeats to the group, and the consumer receives
nothing from then on (aiokafka #1038). For aiokafka 0.14.0 exactly.
"""

from __future__ import annotations

from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError

_send = AIOKafkaConnection.send


def patch_connections() -> None:
    """Make a write to a dead connection raise KafkaConnectionError, as without uvloop. Idempotent."""
    AIOKafkaConnection.send = _send_or_lose


def _send_or_lose(self: AIOKafkaConnection, request: Any, expect_response: bool = True) -> Any:
    try:
        return _send(self, request, expect_response)
    except RuntimeError as exc:
        self.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"the connection to {self.host}:{self.port} has died") from exc
