"""A load of chat with a memory: clients that post and watch, everything that they were answered and shown, and the
verdict over it.

The invariants are those of docs/reliability.md, named I1 to I19 there.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import httpx2
import orjson
import psycopg

from ops.http import open_front_door
from ops.live import Live
from ops.replay.checker import Accepted, Seen, Shown, judge
from ops.running import RunningStack
from runtime.auth import issue
from schemas.ids import new_id
from tests.fault import topics

OK, UNKNOWN = (200, 201), (None, 429, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One POST, and what became of it as its client saw it. Without a status there was no answer."""

    key: str
    room: str
    sender: str
    content: str
    began: float
    ended: float
    status: int | None
    said: dict[str, Any]
    replayed: bool = False
    error: str = ""


@dataclass(slots=True)
class Screen:
    """What a member sees."""

    seen: Seen
    frames: dict[int, Shown | None] = field(default_factory=dict)
    shown_at: dict[int, float] = field(default_factory=dict)
    others: list[dict[str, Any]] = field(default_factory=list)

    def joined(self, seq: int) -> None:
        self.seen.after = seq

    def shown(self, seq: int, raw: bytes) -> None:
        said = orjson.loads(raw)
        message = said.get("message")
        shown = Shown(message["messageId"], message["senderId"], message["content"]) if message else None
        self.seen.seqs.append(seq)
        self.frames[seq] = shown
        self.shown_at[seq] = time.monotonic()

    def other(self, said: dict[str, Any]) -> None:
        self.others.append(said)


@dataclass(slots=True)
class Watcher:
    """A member's live connection, and the screen behind it."""

    user: str
    room: str
    live: Live
    screen: Screen
    task: asyncio.Task[None] | None = None


@dataclass(slots=True)
class Chat:
    """Some conversations. ``doors`` are the HTTP front doors that clients go to, in turn."""

    stack: RunningStack
    client: httpx2.AsyncClient
    doors: list[str]
    since: dict[int, int]
    rooms: dict[str, list[str]] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    watchers: list[Watcher] = field(default_factory=list)
    tokens: dict[str, str] = field(default_factory=dict, repr=False)
    _count: int = 0

    def token(self, user: str) -> str:
        return self.tokens.setdefault(user, issue(self.stack.jwt_secret, user, ttl_s=900))

    # what clients do

    async def attempt(self, room: str, content: str, *, sender: str = "", key: str = "", door: str = "") -> Attempt:
        """Post once."""
        sender, key = sender or self.rooms[room][0], key or new_id()
        body = {"conversationId": room, "type": "text", "content": content, "clientMessageId": key}
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

    async def watch(self, user: str, room: str, url: str = "", *, after: int | None = 0) -> Watcher:
        """One more connection, which has joined when this returns."""
        screen = Screen(Seen(user, after or 0))
        live = Live((url or self.stack.ws_url,), self.token(user), room, screen, after=after)
        watcher = Watcher(user, room, live, screen)
        watcher.task = asyncio.create_task(live.run())
        self.watchers.append(watcher)
        async with asyncio.timeout(30):
            await live.ready.wait()
        return watcher

    # what came of it

    async def settled(self, seconds: float = 30, *, stages: bool = True) -> None:
        """Wait until nothing is owed to anyone (I14)."""
        async with await psycopg.AsyncConnection.connect(self.stack.pg_dsn, autocommit=True) as conn:
            give_up = time.monotonic() + seconds
            while owed := await self._owed(conn, stages):
                assert time.monotonic() < give_up, f"still owed after {seconds} s: {owed}"
                await asyncio.sleep(0.05)

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
        behind = {w.user: (w.live.cursor, heads[w.room]) for w in self.watchers if w.live.cursor != heads[w.room]}
        return {**owed, "behind": behind} if behind else owed

    async def verdict(self, *, log: bool = True) -> None:
        """Everything that can be judged, from answers, screens, the store and the log."""
        with psycopg.connect(self.stack.pg_dsn) as conn:
            rows = conn.execute(_ROWS, (list(self.rooms),)).fetchall()
            heads = dict(conn.execute(_HEADS, (list(self.rooms),)).fetchall())
            changes = conn.execute(_CHANGES, (list(self.rooms),)).fetchall()
        found = [*self._answers_and_rows(rows), *self._order(rows, changes, heads), *self._screens(rows, heads)]
        if log:
            found += await self._log(rows)
        assert not found, "\n".join(found[:30])

    def _answers_and_rows(self, rows: Sequence[Any]) -> list[str]:
        """I1 to I4."""
        found, stored = [], defaultdict(list)
        for room, seq, message_id, sender, key, content, _ in rows:
            stored[sender, key].append((message_id, room, seq, content))
        tried = defaultdict(list)
        for made in self.attempts:
            tried[made.sender, made.key].append(made)
        for who, attempts in tried.items():
            there = stored.pop(who, [])
            answers = {(a.said["messageId"], a.said["seq"]) for a in attempts if a.status in OK}
            if len(there) > 1:
                found.append(f"I2: {len(there)} rows of one key {who}")
            if len(answers) > 1:
                found.append(f"I2: different answers for one key {who}: {answers}")
            if answers and [(m, s) for m, _, s, _ in there] != list(answers):
                found.append(f"I1: answered {answers}, stored {there}")
            if there and there[0][3] not in {a.content for a in attempts if a.status in (*OK, *UNKNOWN)}:
                found.append(f"I1: {who} is stored with a content that was refused or never sent")
            if there and all(a.status is not None and 400 <= a.status < 429 for a in attempts):
                found.append(f"I4: refused, and stored: {who}")
        found += [f"I3: a row that nobody sent: {who}" for who in stored]
        return found

    def _order(self, rows: Sequence[Any], changes: Sequence[Any], heads: dict[str, int]) -> list[str]:
        """I5 and I8."""
        found, seqs = [], defaultdict(list)
        for room, seq in changes:
            seqs[room].append(seq)
        for room, head in heads.items():
            if seqs[room] != list(range(1, head + 1)):
                found.append(f"I5: the seqs of {room} are not dense up to {head}")
        answered = sorted((a for a in self.attempts if a.status in OK and not a.replayed), key=lambda a: a.ended)
        last: dict[str, list[Attempt]] = defaultdict(list)
        for made in answered:
            last[made.room].append(made)
        for room, made in last.items():
            for one, other in pairwise(made):
                if one.ended < other.began and one.said["seq"] >= other.said["seq"]:
                    found.append(f"I5: {room} {one.said['seq']} was answered before {other.said['seq']} was sent")
        found += [f"I8: {room} seq {seq} is still pending" for room, seq, *_, status in rows if status == 0]
        return found

    def _screens(self, rows: Sequence[Any], heads: dict[str, int]) -> list[str]:
        """I10, and I12 between rows and frames."""
        accepted: dict[str, dict[int, Accepted]] = {room: {} for room in self.rooms}
        for room, seq, message_id, sender, _, content, _ in rows:
            accepted[room][seq] = Accepted(message_id, sender, content, 0.0)
        found = []
        for watcher in self.watchers:
            room, screen = watcher.room, watcher.screen
            verdict = judge(room, heads[room], accepted[room], screen.frames, [screen.seen])
            for kind in ("lost", "doubled", "reordered", "wrong"):
                found += [f"I10 {kind}: {evidence}" for evidence in getattr(verdict, kind)]
        return found

    async def _log(self, rows: Sequence[Any]) -> list[str]:
        """I6, and I12 between rows and the log."""
        said: dict[str, list[int]] = defaultdict(list)
        partitions: dict[str, set[int]] = defaultdict(set)
        contents: dict[tuple[str, int], str] = {}
        for each in await self.created():
            room, message = each.key.decode(), orjson.loads(each.value)["message"]
            partitions[room].add(each.partition)
            if message["seq"] not in said[room]:
                said[room].append(message["seq"])
            contents[room, message["seq"]] = message["content"]
        found = [f"I6: {room} lies in partitions {where}" for room, where in partitions.items() if len(where) > 1]
        wanted = {room: [row[1] for row in rows if row[0] == room] for room in self.rooms}
        found += [f"I6: {room}: rows {w}, in the log {said[room]}" for room, w in wanted.items() if said[room] != w]
        found += [f"I12: {row[0]} seq {row[1]}" for row in rows if contents.get((row[0], row[1]), row[5]) != row[5]]
        return found

    async def created(self) -> list[Any]:
        """All records of ``message.created`` of these conversations, as they lie in the log."""
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
    """Conversations, with a live connection of each member."""
    limits = httpx2.Limits(max_connections=64)
    async with httpx2.AsyncClient(timeout=6, limits=limits) as client:
        since = await topics.ends(stack.kafka, "message.created")
        chat = Chat(stack, client, list(doors) or [stack.http_url], since)
        async with open_front_door(stack.http_url) as door:
            for _ in range(rooms):
                users = [f"u{n}-{new_id()[-8:]}" for n in range(members)]
                chat.rooms[await door.create(chat.token(users[0]), users[1:], "a room")] = users
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
