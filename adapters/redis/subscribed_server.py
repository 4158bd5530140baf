"""Connection of a node to one server for subscriptions: opened again for ever, with all channels placed on it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from redis.exceptions import MovedError, ResponseError

from adapters.redis.client import OUTAGES, says
from adapters.redis.connection import RedisConnection, credentials, open_connection
from adapters.redis.slot_client import SlotClient
from adapters.redis.target import Address

_log = structlog.get_logger()

_BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0)


class Owner(Protocol):
    """Subscriptions of the node, as a server needs them. ``home`` is a channel that keeps each connection in use."""

    client: SlotClient
    home: str

    def channels_on(self, server: SubscribedServer) -> list[str]:
        """Return the channels that are placed on this server."""

    def lost(self, server: SubscribedServer) -> None:
        """Note that the connection has ended."""

    def moved(self, server: SubscribedServer, error: MovedError) -> None:
        """Note that a channel was subscribed on the wrong server."""

    def on_push(self, server: SubscribedServer, push: list[Any]) -> None:
        """Take a message or a confirmation."""


@dataclass(slots=True, eq=False)
class SubscribedServer:
    """Server with the subscribing connection to it, which is opened again for ever."""

    address: Address
    owner: Owner
    connection: RedisConnection | None = None
    task: asyncio.Task[None] | None = None
    _failures: int = 0

    @property
    def name(self) -> str:
        """The address, for the log."""
        return str(self.address)

    async def run(self) -> None:
        """Keep a connection for ever; its owner learns of each loss."""
        while True:
            try:
                await self._serve()
            except OUTAGES as exc:
                _log.warning("redis_subscription_lost", server=self.name, reason=type(exc).__name__, driver=says(exc))
            self.owner.lost(self)
            await asyncio.sleep(_BACKOFF_S[min(self._failures, len(_BACKOFF_S) - 1)])
            self._failures += 1

    async def _serve(self) -> None:
        client = self.owner.client.client_of(self.address)
        user, password, _ = credentials(client)
        connection = await open_connection(client, self._on_reply)
        try:
            if password:
                connection.send(["AUTH", *filter(None, (user, password))])
            connection.send(["SUBSCRIBE", self.owner.home])
            self.connection = connection
            self.subscribe(*(channels := self.owner.channels_on(self)))
            _log.debug("redis_subscriptions_opened", server=self.name, channels=len(channels))
            await connection.until_lost()
        finally:
            self.connection = None
            connection.close()

    def _on_reply(self, reply: Any) -> None:
        if isinstance(reply, list):
            # The home channel is plain pub/sub, which a node confirms even while it refuses all sharded channels. So
            # only another channel proves that the server works again.
            if reply[1] != self.owner.home.encode():
                self._failures = 0
            self.owner.on_push(self, reply)
        elif isinstance(reply, MovedError):
            self.owner.moved(self, reply)
        elif isinstance(reply, ResponseError) and self.connection is not None:
            # An error does not name its channel, so all channels of this server are subscribed again.
            _log.warning(
                "redis_subscription_refused", server=self.name, reason=str(reply).split(" ")[0], driver=says(reply)
            )
            self.connection.close()

    def end(self) -> None:
        """Cancel the task that keeps the connection."""
        if self.task is not None:
            self.task.cancel()

    def subscribe(self, *names: str) -> None:
        """Subscribe, if connected; a connection that opens later subscribes all its channels."""
        if self.connection is not None and names:
            verb = "SSUBSCRIBE" if self.owner.client.is_cluster else "SUBSCRIBE"
            self.connection.send(*([verb, name] for name in names))

    def unsubscribe(self, name: str) -> None:
        """Unsubscribe, as a best effort."""
        if self.connection is not None:
            self.connection.send(["SUNSUBSCRIBE" if self.owner.client.is_cluster else "UNSUBSCRIBE", name])
