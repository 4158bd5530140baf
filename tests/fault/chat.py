"""A load of chat with a memory: clients that post and watch, and everything that they were answered and shown."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import psycopg
from millrace_client import HttpClient, LiveConnection, open_http

from adapters.auth import issue
from schemas.ids import new_id
from stack.running import RunningStack
from tests.fault import judging, topics
from tests.fault.judging import OK, UNKNOWN, Attempt, Row, Screen, Stored, Watcher
from verify import history
from verify.frames import Frames
from verify.workload import DeviceKind, DeviceSpec


@dataclass(slots=True)
class Chat:
    """A load on some conversations. ``doors`` are the URLs of the HTTP API, which clients use in turn."""

    stack: RunningStack
    client: httpx2.AsyncClient
    doors: list[str]
    since: dict[int, int]
    rooms: dict[str, list[str]] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    watchers: list[Watcher] = field(default_factory=list)
    frames: defaultdict[str, Frames] = field(default_factory=lambda: defaultdict(Frames))
    tokens: dict[str, str] = field(default_factory=dict, repr=False)
    _count: int = 0

    def token(self, user: str) -> str:
        return self.tokens.setdefault(user, issue(self.stack.jwt_secret, user, ttl_s=900))

    # what clients do

    async def attempt(
        self,
        room: str,
        content: str,
        *,
        sender: str = "",
        key: str = "",
        door: str = "",
        reply_to: str | None = None,
    ) -> Attempt:
        """Post once."""
        sender, key = sender or self.rooms[room][0], key or new_id()
        body = {"conversationId": room, "type": "text", "content": content, "clientMessageId": key, "replyTo": reply_to}
        headers = {"authorization": f"Bearer {self.token(sender)}"}
        began, status, said, replayed, error = time.monotonic(), None, {}, False, ""
        try:
            answer = await self.client.post(f"{door or self.doors[0]}/messages", json=body, headers=headers)
            status, said = answer.status_code, answer.json()
            replayed = answer.headers.get("idempotent-replayed") == "true"
        except httpx2.TransportError as exc:
            error = type(exc).__name__
        made = Attempt(key, room, sender, content, began, time.monotonic(), status, said, replayed, error)
        self.attempts.append(made)
        return made

    async def post(self, room: str, content: str, *, sender: str = "", key: str = "", seconds: float = 60) -> Attempt:
        """Post until it is known what became of it."""
        key, wait, turn, give_up = key or new_id(), 0.05, self._count, time.monotonic() + seconds
        while True:
            made = await self.attempt(room, content, sender=sender, key=key, door=self.doors[turn % len(self.doors)])
            if made.status not in UNKNOWN:
                assert made.status in OK, made
                return made
            assert time.monotonic() < give_up, made
            await asyncio.sleep(wait)
            wait, turn = min(wait * 2, 1.0), turn + 1

    async def say(self, count: int, *, at_once: int = 8, pace_s: float = 0.0) -> None:
        """Post so many messages, from several members of each conversation at the same time."""
        rooms, todo = list(self.rooms), iter(range(self._count, self._count + count))
        self._count += count

        async def some() -> None:
            for n in todo:
                room = rooms[n % len(rooms)]
                members = self.rooms[room]
                await self.post(room, f"message {n}", sender=members[n // len(rooms) % len(members)])
                await asyncio.sleep(pace_s)

        await asyncio.gather(*(some() for _ in range(at_once)))

    async def all_write(self) -> None:
        """Let each member write once in each conversation: presence is shown where its user has written."""
        for room, members in self.rooms.items():
            for member in members:
                await self.post(room, "hello", sender=member)

    async def watch(self, user: str, room: str, url: str = "", *, after: int | None = 0) -> Watcher:
        """Open one more connection; return once it has joined."""
        spec = DeviceSpec(user=user, device="-", kind=DeviceKind.STEADY)
        screen = Screen(history.Screen(spec, after or 0), self.frames[room])
        live = LiveConnection(url or self.stack.ws_url, self.token(user), listener=screen, persistent=True)
        watcher = Watcher(user, room, live, live.subscribe(room, screen, after=after), screen)
        watcher.task = asyncio.create_task(live.run())
        self.watchers.append(watcher)
        async with asyncio.timeout(30):
            await watcher.subscription.ready.wait()
        return watcher

    # what came of it

    async def settled(self, seconds: float = 30, *, stages: bool = True) -> None:
        """Wait until nothing is owed to anyone (I14)."""
        give_up = time.monotonic() + seconds
        async with await self._connect(give_up) as conn:
            while owed := await self._owed(conn, stages):
                assert time.monotonic() < give_up, f"still owed after {seconds} s: {owed}"
                await asyncio.sleep(0.05)

    async def _connect(self, give_up: float) -> psycopg.AsyncConnection[Any]:
        """Connect to the store, which may be starting."""
        while True:
            try:
                return await psycopg.AsyncConnection.connect(self.stack.pg_dsn, autocommit=True)
            except psycopg.OperationalError:
                if time.monotonic() >= give_up:
                    raise
                await asyncio.sleep(0.1)

    async def _owed(self, conn: psycopg.AsyncConnection[Any], stages: bool) -> dict[str, Any]:
        cursor = await conn.execute(_OWED, {"rooms": list(self.rooms)})
        row = await cursor.fetchone()
        assert row is not None
        names = ("unpublished", "pending", "unindexed", "uncounted")
        owed = {name: count for name, count in zip(names, row, strict=True) if count}
        if not stages:
            owed = {name: count for name, count in owed.items() if name in ("unpublished", "pending")}
        cursor = await conn.execute(_HEADS, (list(self.rooms),))
        heads = dict(await cursor.fetchall())
        behind = {
            w.user: (w.subscription.cursor, heads[w.room])
            for w in self.watchers
            if w.subscription.cursor != heads[w.room]
        }
        return {**owed, "behind": behind} if behind else owed

    def stored(self) -> Stored:
        """Return what the store holds of these conversations now."""
        with psycopg.connect(self.stack.pg_dsn) as conn:
            rooms = (list(self.rooms),)
            rows, changes = conn.execute(_ROWS, rooms).fetchall(), conn.execute(_CHANGES, rooms).fetchall()
            return Stored([Row(*row) for row in rows], changes, dict(conn.execute(_HEADS, rooms).fetchall()))

    async def verdict(self, stored: Stored | None = None) -> None:
        """Judge answers, screens, the store and the log."""
        stored = stored or self.stored()
        found = judging.judged(self.attempts, self.watchers, self.frames, stored)
        found += judging.log(await self.created(), stored)
        assert not found, "\n".join(found[:30])

    async def created(self) -> list[Any]:
        """Return all records of ``message.created`` of these conversations, as they lie in the log."""
        found = await topics.records(self.stack.kafka, "message.created", self.since)
        return [each for each in found if each.key is not None and each.key.decode() in self.rooms]


_OWED = """
WITH mine AS (SELECT * FROM messages WHERE conversation_id = ANY(%(rooms)s::uuid[]))
SELECT (SELECT count(*) FROM outbox WHERE conversation_id = ANY(%(rooms)s::uuid[]) AND published_at IS NULL),
       (SELECT count(*) FROM mine WHERE status = 0),
       (SELECT count(*) FROM mine) - (SELECT count(*) FROM search_documents
                                      WHERE conversation_id = ANY(%(rooms)s::uuid[])),
       (SELECT count(*) FROM mine) - (SELECT coalesce(sum(messages), 0) FROM analytics_minutes
                                      WHERE conversation_id = ANY(%(rooms)s::uuid[]))
"""
_HEADS = "SELECT conversation_id::text, last_seq FROM conversations WHERE conversation_id = ANY(%s::uuid[])"
_CHANGES = """SELECT conversation_id::text, seq FROM changes WHERE conversation_id = ANY(%s::uuid[])
ORDER BY conversation_id, seq"""
_ROWS = """SELECT conversation_id::text, seq, message_id::text, sender_id, client_message_id, content, status
FROM messages WHERE conversation_id = ANY(%s::uuid[]) ORDER BY conversation_id, seq"""


@asynccontextmanager
async def open_chat(
    stack: RunningStack,
    *,
    rooms: int = 3,
    members: int = 3,
    doors: Sequence[str] = (),
    ws_url: str = "",
    watched: bool = True,
) -> AsyncIterator[Chat]:
    """Yield a load on new conversations, with a live connection of each member."""
    limits = httpx2.Limits(max_connections=64)
    async with httpx2.AsyncClient(timeout=6, limits=limits) as client:
        since = await topics.ends(stack.kafka, "message.created")
        chat = Chat(stack, client, list(doors) or [stack.http_url], since)
        async with open_http(stack.http_url) as transport:
            for _ in range(rooms):
                users = [f"u{n}-{new_id()[-8:]}" for n in range(members)]
                owner = HttpClient(transport, chat.token(users[0]))
                chat.rooms[await owner.create_conversation(users[1:], "a room")] = users
        if watched:
            wanted = [(user, room) for room, users in chat.rooms.items() for user in users]
            await asyncio.gather(*(chat.watch(user, room, ws_url) for user, room in wanted))
        try:
            yield chat
        finally:
            await asyncio.gather(*(watcher.live.close() for watcher in chat.watchers))
            for watcher in chat.watchers:
                assert watcher.task is not None
                watcher.task.cancel()
            await asyncio.gather(*(w.task for w in chat.watchers if w.task), return_exceptions=True)
