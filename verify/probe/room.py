"""Rooms: conversations of the probe in which messages are always on their way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from millrace_client import Listener, LiveConnection, Subscription

from verify.activity import Access
from verify.probe.doors import FAILED, TRY_S, Doors, pauses

DEVICE = "probe"
_ACK_S = 0.2


@dataclass(slots=True, kw_only=True)
class ProbeRoom(Listener):
    """A conversation, a receiver who is connected, and the messages that are being sent.

    A message is sent every ``every_s`` seconds whether or not earlier ones were answered, unless ``most`` still wait:
    these alone show that nothing is accepted, and the probe must not be what overloads a stack that comes back.
    """

    run: str
    number: int
    conversation_id: str
    receiver: str
    every_s: float
    most: int
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    connections: list[LiveConnection] = field(default_factory=list)
    _sending: set[asyncio.Task[None]] = field(default_factory=set)
    _sent: int = 0

    async def open(self, access: Access) -> None:
        """Connect; return when the receiver has joined."""
        live = LiveConnection(access.ws, access.token(self.receiver), device=DEVICE, persistent=True)
        subscription = live.subscribe(self.conversation_id, self, after=0)
        self.connect(live)
        self.tasks.append(asyncio.create_task(_acknowledge(subscription)))
        await subscription.ready.wait()

    def connect(self, live: LiveConnection) -> None:
        """Keep a connection alive until the room is closed."""
        self.connections.append(live)
        self.tasks.append(asyncio.create_task(live.run()))

    async def talk(self, doors: Doors) -> None:
        """Send a message at each beat."""
        while True:
            await asyncio.sleep(self.every_s)
            if len(self._sending) < self.most:
                task = asyncio.create_task(self.send(doors, self.next_number()))
                self._sending.add(task)
                task.add_done_callback(self._end)

    def next_number(self) -> int:
        """Return a number that no other message of the room has."""
        self._sent += 1
        return self._sent

    def _end(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.tasks.append(task)  # its error is raised with those of the connections

    async def send(self, doors: Doors, number: int) -> None:
        """Send the room's next message, and repeat it until it is accepted."""
        raise NotImplementedError

    async def remind(self, doors: Doors) -> None:
        """Send what makes up for a lost status, if one is missing."""

    async def post(
        self, doors: Doors, sender: str, number: int, words: str = "", attachments: Sequence[str] = ()
    ) -> tuple[int, float]:
        """Send a message until it is accepted; return its seq, and when the answer came."""
        key = f"{self.run}-{self.number}-{number}"
        async for _ in pauses():
            try:
                async with asyncio.timeout(TRY_S):
                    posted = await doors.user(sender).send(
                        self.conversation_id,
                        f"{self.run} {key} {words}",  # begins as all contents of the run, which no log may hold
                        type="image" if attachments else "text",
                        attachments=attachments,
                        client_message_id=key,
                    )
            except FAILED:
                continue
            return posted.message.seq, time.monotonic()
        raise AssertionError("pauses have no end")

    async def close(self) -> None:
        """End the connections and all tasks."""
        for task in (*self._sending, *self.tasks):
            task.cancel()
        await asyncio.gather(*(live.close() for live in self.connections), return_exceptions=True)
        await asyncio.gather(*self._sending, *self.tasks, return_exceptions=True)


async def _acknowledge(subscription: Subscription) -> None:
    while True:
        await asyncio.sleep(_ACK_S)
        await subscription.acknowledge()
