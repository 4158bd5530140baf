"""Rows 49 and 50: who does not receive a message is notified of it, once; who has received it is not."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

import psycopg
import pytest
from redis.asyncio import Redis
from websockets.exceptions import ConnectionClosed

from schemas.codec import decode
from schemas.events import NotificationSent
from stack.running import RunningStack
from tests.fault import topics
from tests.fault.chat import Chat, open_chat
from tests.fault.conftest import Beside
from tests.fault.processes import lives_of, pid_of, stopped, through
from tests.fault.sockets import Socket, open_socket
from verify.fault_proxy import open_proxy
from verify.faults.process import send

TOPIC = NotificationSent.TOPIC
LATE_S = 20.0
"""Well below a lease of 30 s; a decision takes about 8."""


async def keep_reading(socket: Socket) -> None:
    """Acknowledge everything, and report it as read, as a client in the foreground does."""
    with suppress(ConnectionClosed):
        while True:
            frame = await socket.next("new_message", seconds=600)
            await socket.say(type="read", conversationId=frame["conversationId"], seq=frame["seq"])


@asynccontextmanager
async def reader(chat: Chat, user: str, url: str = "") -> AsyncIterator[None]:
    """A user who is connected, has joined all conversations, and reads what comes."""
    async with open_socket(url or chat.stack.ws_url, chat.token(user)) as socket:
        for room, users in chat.rooms.items():
            if user in users:
                await socket.join(room, after=0)
        reading = asyncio.create_task(keep_reading(socket))
        yield
        reading.cancel()


def undecided(chat: Chat) -> int:
    with psycopg.connect(chat.stack.pg_dsn) as conn:
        row = conn.execute(
            "SELECT count(*) FROM notifications_due WHERE conversation_id = ANY(%s::uuid[])", (list(chat.rooms),)
        ).fetchone()
    assert row is not None
    return int(row[0])


def stored(chat: Chat) -> list[tuple[str, int, str]]:
    """All notifications of these conversations: (conversation, seq, user)."""
    with psycopg.connect(chat.stack.pg_dsn) as conn:
        return [
            (room, seq, user)
            for room, seq, user in conn.execute(
                """SELECT conversation_id::text, seq, user_id FROM notifications
                WHERE conversation_id = ANY(%s::uuid[]) ORDER BY 1, 2, 3""",
                (list(chat.rooms),),
            )
        ]


async def decided(chat: Chat, count: int, seconds: float = LATE_S) -> None:
    """Wait until there are so many notifications, and nothing is undecided."""
    deadline = time.monotonic() + seconds
    while len(stored(chat)) < count or undecided(chat):
        assert time.monotonic() < deadline, (len(stored(chat)), count, undecided(chat))
        await asyncio.sleep(0.1)


async def published(chat: Chat, since: Mapping[int, int]) -> list[tuple[str, int, str]]:
    """All events of these conversations in the log, as they lie there."""
    found = [decode(TOPIC, each.key, each.value) for each in await topics.records(chat.stack.kafka, TOPIC, since)]
    mine = [event for event in found if isinstance(event, NotificationSent) and event.conversation_id in chat.rooms]
    return sorted((event.conversation_id, event.seq, event.user_id) for event in mine)


@pytest.mark.slow
async def test_row_49_whom_a_message_does_not_reach_is_notified_once_whatever_presence_says(
    stack: RunningStack, beside: Beside
):
    """One user's phone is in a black hole, the node of another is killed, one reads, one is away."""
    since, lives = await topics.ends(stack.kafka, TOPIC), lives_of(stack, "notification")
    gateway = await beside("gateway", node="mortal")
    async with open_chat(stack, rooms=1, members=5, watched=False) as chat, open_proxy() as link:
        [(room, [sender, hole, cut, reading, away])] = chat.rooms.items()
        url = through(stack.ws_url, link)
        async with (
            open_socket(url, chat.token(hole)) as phone,
            open_socket(gateway.ws_url, chat.token(cut)) as other,
            reader(chat, reading),
        ):
            await phone.join(room)
            await other.join(room)
            link.black_hole()
            posts = [chat.post(room, f"message {number}", sender=sender) for number in range(10)]
            await asyncio.gather(*posts[:5])
            gateway.kill()
            await asyncio.gather(*posts[5:])
            async with asyncio.timeout(10):
                while not undecided(chat):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            # Between the row and the notification: a kill, which the supervisor mends.
            pid = pid_of(stack, "notification")
            assert pid is not None
            send([pid], signal.SIGKILL)
            await decided(chat, 30, 60)
            assert lives_of(stack, "notification") > lives
            seqs = [each["seq"] for each in sorted((a.said for a in chat.attempts), key=lambda said: said["seq"])]
            wanted = sorted((room, seq, user) for seq in seqs for user in (hole, cut, away))
            assert stored(chat) == wanted
            async with asyncio.timeout(10):
                while len(found := await published(chat, since)) < len(wanted):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            assert found == wanted
            link.reset()


@pytest.mark.slow
async def test_row_50_after_a_flush_of_redis_nobody_who_reads_is_notified(stack: RunningStack):
    async with open_chat(stack, rooms=1, members=2, watched=False) as chat:
        [(room, [sender, user])] = chat.rooms.items()
        async with reader(chat, user), reader(chat, sender), Redis.from_url(stack.redis_url) as redis:
            for number in range(40):
                if number % 20 == 0:
                    await redis.flushall()
                await chat.post(room, f"message {number}", sender=sender)
                await asyncio.sleep(0.3)  # over as long as the registry takes to be whole again
            await chat.settled()
            await decided(chat, 0)
            assert stored(chat) == []


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_row_50_while_the_status_stage_stands_still_nobody_who_reads_is_notified(stack: RunningStack):
    async with open_chat(stack, rooms=1, members=3, watched=False) as chat:
        [(room, [sender, user, hole])] = chat.rooms.items()
        async with reader(chat, user), open_socket(stack.ws_url, chat.token(hole)) as deaf:
            await deaf.join(room)
            with stopped(stack, "status"):
                for number in range(5):
                    await chat.post(room, f"message {number}", sender=sender)
                await asyncio.sleep(30)  # the fault itself
                assert stored(chat) == []
                assert undecided(chat) == 5
            await decided(chat, 5, 60)
            assert {who for _, _, who in stored(chat)} == {hole}


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_row_50_a_status_stage_that_is_killed_again_and_again_makes_no_false_notification(
    stack: RunningStack,
):
    async with open_chat(stack, rooms=1, members=2, watched=False) as chat:
        [(room, [sender, user])] = chat.rooms.items()
        async with reader(chat, user):
            for number in range(4):
                await chat.post(room, f"message {number}", sender=sender)
                pid = pid_of(stack, "status")
                if pid is not None:
                    send([pid], signal.SIGKILL)
                await asyncio.sleep(3)  # the fault itself: less than it takes to join its group again
            await chat.settled(60)
            await decided(chat, 0, 60)
            assert stored(chat) == []
