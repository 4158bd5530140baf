"""Users of deploy/redis.acl: each may do what its processes do, and none but a gateway reaches people's screens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from adapters.redis.client import connect, execute
from adapters.redis.gateway_directory import RedisAnswers, call, connection, connections, gateways
from adapters.redis.presence_throttle import RedisEphemeralThrottle
from adapters.redis.publisher import open_fanout
from adapters.redis.rates import open_rates
from adapters.redis.registry import open_registry
from adapters.redis.slot_client import open_slot_client
from adapters.redis.subscriptions import open_subscriptions
from adapters.redis.target import target
from domain.errors import Unavailable
from domain.rates import Limit
from domain.revocations import CHANNEL
from gateway import channels
from schemas.ids import new_id
from stack.ports import allot
from stack.servers.valkey import _binary
from tests.contract.conftest import entry, listen, now
from tests.given import redis

ACL = Path(__file__).parents[2] / "deploy" / "redis.acl"
USERS = ("ingest", "notification", "gateway", "operator")
As: TypeAlias = Callable[[str], str]


@pytest.fixture
async def url_of(tmp_path: Path) -> AsyncIterator[As]:
    """The URL of a user, on a server with the file as an operator has it, and one who looks at what was denied."""
    file, [port] = tmp_path / "redis.acl", allot(["redis"], {}, {}).values()
    text = ACL.read_text() + "user judge on >JUDGE_PASSWORD +acl\n"
    file.write_text(text)
    async with redis(tmp_path, str(_binary()), "redis", port, f"aclfile {file}"):
        yield lambda user: f"redis://{user}:{user.upper()}_PASSWORD@127.0.0.1:{port}/0"


async def denied(url_of: As) -> list[Any]:
    client = connect(target(url_of("judge")))
    found = await execute(client, "ACL", "LOG")
    await client.aclose()
    return [(line[b"username"], line[b"object"]) for line in found]


async def test_each_user_may_do_what_its_processes_do(url_of: As):
    gateway, user, conversation = url_of("gateway"), new_id(), new_id()
    async with (
        open_rates(url_of("ingest"), "ingest") as rates,
        open_subscriptions(url_of("ingest"), "ingest") as ingest,
        open_subscriptions(gateway, "gateway") as pubsub,
        open_fanout(gateway) as fanout,
        open_registry(gateway, node="gateway", lease_s=1) as registry,
        open_registry(gateway, node="another", lease_s=0.2) as other,
        open_registry(url_of("notification"), node="notification", lease_s=1) as stage,
        open_slot_client(url_of("operator")) as operator,
    ):
        await rates.beat_once()
        assert (await rates.take("messages", user, Limit(1, 5))).wait_s == 0
        (heard, one), (told, two) = [await listen(each) for each in (ingest, pubsub)]
        await ingest.subscribe(CHANNEL)
        for channel in (channels.messages(conversation), channels.user_messages(user), CHANNEL):
            await pubsub.subscribe(channel)
        await fanout.publish([(channels.messages(conversation), b"m"), (channels.user_messages(user), b"u")])
        assert [(await told.next()).data for _ in range(2)] == [b"m", b"u"]
        await operator.run([("PUBLISH", CHANNEL, b"")])
        assert (await heard.next()).channel == (await told.next()).channel == CHANNEL
        mine, gone = entry(user), entry()
        for each, held in ((registry, mine), (other, gone)):
            await each.register(held)
            await each.renew([held])
        assert await stage.connected([user]) == {user}
        await stage.away([user, "nobody"])
        await stage.forgets()
        await registry.last_seen([user])
        assert {one.node for one in await gateways(operator)} >= {"gateway"}
        assert (await connection(operator, mine.connection_id)).user_id == user
        assert len(await connections(operator, user=user)) == len(await connections(operator, node="gateway")) == 1
        throttle, answers = RedisEphemeralThrottle(fanout.client, "gateway"), RedisAnswers(fanout.client)
        assert await throttle.may_type(conversation, user)
        assert not await throttle.types_elsewhere(conversation, user)
        assert await throttle.may_tell(user, True) == 0
        calling = asyncio.create_task(call(operator, "gateway", {"type": "t"}))
        request = (await told.next()).data
        await answers.answer(request.partition(b'"reply":"')[2].partition(b'"')[0].decode(), b"{}")
        assert await calling == {}
        await other.leave([gone.user_id])
        async with asyncio.timeout(10):
            while await connections(operator, user=gone.user_id):
                await registry.clear()
        await registry.unregister(mine.connection_id, user, now())
        for subscriptions in (ingest, pubsub):
            await subscriptions.unsubscribe(CHANNEL)
        for pumping in (one, two):
            pumping.cancel()
    assert await denied(url_of) == []


@pytest.mark.parametrize("user", [user for user in USERS if user != "gateway"])
async def test_nobody_but_a_gateway_publishes_a_frame_or_makes_a_connection_up(user: str, url_of: As):
    frame, there = "conversation:1:messages", "user:bob:connected"
    async with open_slot_client(url_of(user)) as client:
        for command in (("PUBLISH", frame, b""), ("SPUBLISH", frame, b""), ("ZADD", there, 1, "c"), ("DEL", there)):
            with pytest.raises(Unavailable, match="Redis denies this user a right") as refused:
                await client.run([command])
            assert "NOPERM" in refused.value.driver


@pytest.mark.parametrize("user", USERS)
async def test_no_user_administers_the_server(user: str, url_of: As):
    async with open_slot_client(url_of(user)) as client:
        for command in (
            ("CONFIG", "GET", "*"),
            ("FLUSHALL", "ASYNC"),
            ("KEYS", "*"),
            ("ACL", "LIST"),
            ("CLIENT", "LIST"),
        ):
            with pytest.raises(Unavailable, match="Redis denies this user a right"):
                await client.run([command])
