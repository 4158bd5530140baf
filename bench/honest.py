"""Honest users: pairs who talk at a human pace, and list, search and send pictures now and then."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial

import httpx2
import orjson
from websockets.asyncio.client import ClientConnection

from verify.attacks.doors import GONE, Doors, say
from verify.attacks.http import uploaded
from verify.attacks.media import picture

PAIRS, PER_S = 8, 2.0
"""Conversations of two, and messages a second in each."""
DESCRIBED = f"{PAIRS} pairs of users, {PER_S:g} messages a second each, with lists, searches and pictures now and then"
_LATE_S = 10.0
_LOOK_EVERY, _PICTURE_EVERY = 10, 8
"""Messages of a pair from one list and search, and from one picture, to the next."""


@dataclass(slots=True)
class _Pair:
    """A sender and a recipient in a conversation of theirs. ``arrivals`` are keyed by content or media id."""

    client: httpx2.AsyncClient
    room: str
    socket: ClientConnection
    arrivals: dict[str, asyncio.Future[float]] = field(default_factory=dict)

    async def listen(self) -> None:
        """Note the time at which each message comes, and each file is ready. Ends with the socket."""
        with suppress(*GONE):
            async for raw in self.socket:
                frame = orjson.loads(raw)
                key = frame.get("mediaId") or frame.get("message", {}).get("content")
                arrival = self.arrivals.get(key)
                if arrival is not None and not arrival.done():
                    arrival.set_result(time.monotonic())

    async def send(self, content: str, *attachments: str) -> None:
        """Send a message. Raises HTTPError unless it is accepted."""
        kind = "image" if attachments else "text"
        body = {"conversationId": self.room, "type": kind, "content": content, "attachments": attachments}
        (await self.client.post("/messages", json=body)).raise_for_status()

    async def message(self, content: str) -> None:
        """Send a message; return when the recipient has it."""
        arrival = self.arrivals[content] = asyncio.get_running_loop().create_future()
        try:
            await self.send(content)
            await arrival
        finally:
            del self.arrivals[content]

    async def picture(self, width: int) -> None:
        """Send a picture; return when the recipient may see it."""
        media = await uploaded(self.client, picture(width, 64))
        arrival = self.arrivals[media] = asyncio.get_running_loop().create_future()
        try:
            await self.send("", media)
            await arrival
        finally:
            del self.arrivals[media]

    async def get(self, path: str) -> None:
        """Read something. Raises HTTPError unless it is answered."""
        (await self.client.get(path)).raise_for_status()


@dataclass(slots=True)
class Honest:
    """Honest users of a stack. ``failures`` counts what was refused, late or lost."""

    doors: Doors
    failures: Counter[str] = field(default_factory=Counter)
    _pairs: list[_Pair] = field(default_factory=list)
    _count: int = 0

    @asynccontextmanager
    async def talking(self) -> AsyncIterator[None]:
        """Keep the pairs connected while the block runs."""
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            for number in range(PAIRS):
                pair = await self._pair(stack, number)
                self._pairs.append(pair)
                group.create_task(pair.listen())
            yield
            for pair in self._pairs:
                await pair.socket.close()

    async def _pair(self, stack: AsyncExitStack, number: int) -> _Pair:
        sender = replace(self.doors, user=f"honest.{number}.a", address="127.0.0.1")
        recipient = replace(sender, user=f"honest.{number}.b")
        client = await stack.enter_async_context(sender.client(8))
        answer = await client.post("/conversations", json={"members": [recipient.user]})
        answer.raise_for_status()
        room = answer.json()["conversationId"]
        socket = await stack.enter_async_context(recipient.socket())
        await say(socket, type="join_conversation", id=room)
        return _Pair(client, room, socket)

    async def p95_ms(self, seconds: float) -> dict[str, float]:
        """Return the 95th percentile of the delay of each kind of call, in milliseconds.

        A delay counts from the time at which the call was due, so that a stalled caller hides nothing; one that fails
        counts as ten seconds.
        """
        delays: dict[str, list[float]] = defaultdict(list)
        await asyncio.gather(*(self._talk(pair, int(seconds * PER_S), delays) for pair in self._pairs))
        return {kind: sorted(found)[int(len(found) * 0.95)] * 1000 for kind, found in delays.items()}

    async def _talk(self, pair: _Pair, rounds: int, delays: dict[str, list[float]]) -> None:
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(rounds):
                due = began + number / PER_S
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                self._count += 1
                calls: dict[str, Callable[[], Awaitable[None]]] = {"message": partial(pair.message, str(self._count))}
                if number % _LOOK_EVERY == 1:
                    calls["list"] = partial(pair.get, "/conversations")
                    calls["search"] = partial(pair.get, "/search?q=honest")
                if number % _PICTURE_EVERY == 2:
                    calls["picture"] = partial(pair.picture, 64 + self._count % 4096)
                for kind, call in calls.items():
                    group.create_task(self._timed(kind, call, due, delays[kind]))

    async def _timed(self, kind: str, call: Callable[[], Awaitable[None]], due: float, delays: list[float]) -> None:
        try:
            async with asyncio.timeout(_LATE_S):
                await call()
        except httpx2.HTTPStatusError as exc:
            self.failures[f"{kind}: {exc.response.status_code}"] += 1
            delays.append(_LATE_S)
        except GONE as exc:
            self.failures[f"{kind}: {type(exc).__name__}"] += 1
            delays.append(_LATE_S)
        else:
            delays.append(time.monotonic() - due)
