"""Patch of aiokafka's connections. For aiokafka 0.14.0 exactly.

* TLS and the password may be given as functions, which are called for each connection: files change.
* Why an attempt to connect has failed is noted: clients of aiokafka raise only that there is no connection.
* No request for metadata creates a topic, as it would with the broker's default ``auto.create.topics.enable=true``:
  a client that starts before `millrace topics apply` would else make one with another number of partitions.
* A write to a dead connection under uvloop raises RuntimeError, which aiokafka does not expect: it silently ends the
  task that fetches, or the one that sends heartbeats to the group (aiokafka #1038). It becomes KafkaConnectionError.
"""

from __future__ import annotations

from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.protocol.metadata import MetadataRequest

from adapters.kafka.refusals import ATTEMPTS, connecting

_connect, _send = AIOKafkaConnection.connect, AIOKafkaConnection.send


def patch_connections() -> None:
    """Change the connections of all clients. Idempotent."""
    AIOKafkaConnection.connect, AIOKafkaConnection.send = _connect_or_note, _send_or_lose
    MetadataRequest.__init__.__defaults__ = (None, False)


async def _connect_or_note(self: AIOKafkaConnection) -> Any:
    server = f"{self.host}:{self.port}"
    try:
        self._ssl_context, self._sasl_plain_password = _now(self._ssl_context), _now(self._sasl_plain_password)
        streams = await _connect(self)
    except (KafkaError, OSError, TimeoutError) as exc:
        ATTEMPTS.note(connecting(exc, self), server)
        raise
    except Exception as exc:  # a server's signature of SCRAM that is wrong, an answer that is no Kafka
        ATTEMPTS.note(connecting(exc, self), server)
        raise KafkaConnectionError(f"no connection to {server}") from exc
    ATTEMPTS.note(None, server)
    return streams


def _now(given: Any) -> Any:
    return given() if callable(given) else given


def _send_or_lose(self: AIOKafkaConnection, request: Any, expect_response: bool = True) -> Any:
    try:
        return _send(self, request, expect_response)
    except RuntimeError as exc:
        self.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"the connection to {self.host}:{self.port} has died") from exc
