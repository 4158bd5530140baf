"""Budgets that all nodes have in common: the twin, Valkey and a Redis Cluster, also while they are slow or away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

import pytest

from adapters.memory.rates import MemoryRates
from adapters.redis.rates import RedisRates, open_rates
from domain.rates import Limit, Rates
from schemas.ids import new_id
from tests.contract.conftest import real_url
from verify.fault_proxy import FaultProxy, open_proxy

NOBODY = ["redis://127.0.0.1:1/0", "redis+cluster://:x@127.0.0.1:1,127.0.0.1:2"]
SIXTY = Limit(0.01, 60.0)
"""Sixty at once; in the time of a test none comes back."""


@pytest.fixture(params=["memory", "valkey", "cluster", *NOBODY])
async def rates(request: pytest.FixtureRequest) -> AsyncIterator[Rates]:
    if request.param == "memory":
        yield MemoryRates()
        return
    async with open_rates(request.param if request.param in NOBODY else real_url(request), "n") as opened:
        yield opened


async def passed(rates: Rates, user: str, limit: Limit, calls: int, cost: float = 1.0) -> int:
    """How many of these calls, made at once, pass."""
    standings = await asyncio.gather(*(rates.take("messages", user, limit, cost) for _ in range(calls)))
    return sum(standing.wait_s == 0 for standing in standings)


async def test_a_limit_holds_with_redis_and_without(rates: Rates):
    async with asyncio.timeout(10):
        user, limit = new_id(), Limit(0.1, 3.0)
        left = [(await rates.take("messages", user, limit)).remaining for _ in range(3)]
        assert [int(remaining) for remaining in left] == [2, 1, 0]
        refused = await rates.take("messages", user, limit)
        assert 5 < refused.wait_s <= 10
        assert int(refused.remaining) == 0
        assert 25 < refused.reset_s <= 30
        assert await passed(rates, new_id(), limit, 1) == 1
        assert (await rates.take("search", user, limit)).wait_s == 0
        assert await passed(rates, user, Limit(0.0, 0.0), 50) == 50


async def test_tokens_come_back_at_the_rate_and_looking_takes_none(rates: Rates):
    user, limit = new_id(), Limit(20.0, 2.0)
    async with asyncio.timeout(10):
        assert await passed(rates, user, limit, 5) == 2
        assert (await rates.look("messages", user, limit)).remaining < 2
        while (await rates.look("messages", user, limit)).remaining < 2:  # noqa: ASYNC110 - time has no event
            await asyncio.sleep(0.01)
        assert await passed(rates, user, limit, 5) == 2


async def test_what_a_node_holds_pays_for_a_part_of_a_dear_call(rates: Rates):
    async with asyncio.timeout(10):
        user = new_id()
        assert await passed(rates, user, SIXTY, 1) == 1
        assert (await rates.take("messages", user, SIXTY, 50.0)).wait_s == 0
        refused = await rates.take("messages", user, SIXTY, 20.0)
        assert 1_000 < refused.wait_s <= 1_100  # 11 tokens, at one in 100 s
        assert await passed(rates, user, SIXTY, 20) == 9


async def test_a_call_costs_what_it_says_and_a_full_budget_may_owe(rates: Rates):
    async with asyncio.timeout(10):
        user = new_id()
        assert await passed(rates, user, SIXTY, 9, cost=20.0) == 3
        assert (await rates.take("members", user, SIXTY, 500.0)).wait_s == 0
        refused = await rates.take("members", user, SIXTY)
        assert refused.wait_s > 40_000  # 441 tokens, at one in 100 s
        assert int(refused.remaining) == 0


async def test_a_call_within_the_budget_passes_whatever_was_taken_before(rates: Rates):
    async with asyncio.timeout(10):
        user = new_id()
        assert (await rates.take("members", user, SIXTY, 1.0)).wait_s == 0
        assert (await rates.take("members", user, SIXTY, 40.0)).wait_s == 0
        assert (await rates.take("members", user, SIXTY, 19.0)).wait_s == 0
        assert (await rates.take("members", user, SIXTY, 1.0)).wait_s > 90


async def test_a_call_that_is_dearer_than_the_budget_passes_while_half_of_it_is_there(rates: Rates):
    async with asyncio.timeout(10):
        user, other = new_id(), new_id()
        assert (await rates.take("members", user, SIXTY, 2.0)).wait_s == 0
        assert (await rates.take("members", user, SIXTY, 500.0)).wait_s == 0
        assert (await rates.take("members", user, SIXTY)).wait_s > 40_000
        assert (await rates.take("members", other, SIXTY, 31.0)).wait_s == 0
        refused = await rates.take("members", other, SIXTY, 500.0)
        assert 0 < refused.wait_s <= 100  # the one token that is missing
        assert (await rates.take("members", other, SIXTY, 29.0)).wait_s == 0


@pytest.fixture(params=["valkey", "cluster"])
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[Sequence[RedisRates]]:
    async with nodes_on(real_url(request), 2) as nodes:
        yield nodes


@asynccontextmanager
async def nodes_on(url: str, count: int) -> AsyncIterator[Sequence[RedisRates]]:
    """Nodes that know of each other."""
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(open_rates(url, f"n{number}")) for number in range(count)]
        for _ in range(2):
            for node in nodes:
                await node.beat_once()
        assert {node.nodes for node in nodes} == {count}
        yield nodes
        for node in nodes:
            await node.leave()


async def storm(nodes: Sequence[RedisRates], user: str, calls: int = 300) -> int:
    """How many of the calls, spread over the nodes, pass."""
    each = await asyncio.gather(*(passed(node, user, SIXTY, calls // len(nodes)) for node in nodes))
    return sum(each)


async def test_two_nodes_give_one_limit(pair: Sequence[RedisRates]):
    async with asyncio.timeout(10):
        assert 55 <= await storm(pair, new_id()) <= 60


async def test_two_nodes_give_one_limit_to_a_user_who_goes_from_one_to_the_other(pair: Sequence[RedisRates]):
    user = new_id()
    async with asyncio.timeout(10):
        given = [await passed(pair[n % 2], user, SIXTY, 5) for n in range(40)]
    assert 50 <= sum(given) <= 60


async def test_most_calls_cost_no_round_trip(pair: Sequence[RedisRates], monkeypatch: pytest.MonkeyPatch):
    node, user, asked = pair[0], new_id(), 0
    run = type(node.client).run

    async def counting(client, commands):
        nonlocal asked
        asked += any(command[0] == "EVAL" for command in commands)
        return await run(client, commands)

    monkeypatch.setattr(type(node.client), "run", counting)
    async with asyncio.timeout(10):
        for _ in range(40):
            assert await passed(node, user, SIXTY, 1) == 1
        assert asked <= 6
        asked = 0
        assert await passed(node, new_id(), SIXTY, 300) == 60
        assert asked <= 3, "callers who wait share a round trip"
        await passed(node, user, SIXTY, 100)
        asked = 0
        assert await passed(node, user, SIXTY, 100) == 0
        assert asked == 0, "a refusal that is known costs nothing"


@pytest.fixture
async def proxied(redis_url: str) -> AsyncIterator[tuple[FaultProxy, Sequence[RedisRates]]]:
    """Two nodes whose Redis can be stopped."""
    url = urlsplit(redis_url)
    async with open_proxy(url.port) as proxy:
        here = url._replace(netloc=url.netloc.replace(f":{url.port}", f":{proxy.port}")).geturl()
        async with nodes_on(here, 2) as nodes:
            yield proxy, nodes
            await proxy.heal()


async def until_asked(nodes: Sequence[RedisRates]) -> None:
    """Wait until Redis is asked again and all late answers have come."""
    for node in nodes:
        while node._away_until > time.monotonic() or any(line.is_asked for line in node._lines.values()):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_limit_holds_while_redis_stands_still_and_when_it_goes_on(proxied):
    proxy, nodes = proxied
    proxy.black_hole()
    async with asyncio.timeout(10):
        user, other = new_id(), new_id()
        given = await storm(nodes, user)
        assert 55 <= given <= 66
        assert 55 <= await storm(nodes, other) <= 66
        await proxy.heal()
        for _ in range(4):
            await until_asked(nodes)
            given += await storm(nodes, user)
        assert given <= 66


async def test_a_limit_holds_while_redis_is_slower_than_a_call_waits(proxied):
    proxy, nodes = proxied
    proxy.slow(0.2)
    async with asyncio.timeout(15):
        user = new_id()
        given = await storm(nodes, user)
        for _ in range(4):
            await until_asked(nodes)
            given += await storm(nodes, user)
        await proxy.heal()
        for _ in range(4):
            await until_asked(nodes)
            given += await storm(nodes, user)
        assert 55 <= given <= 66


async def test_a_budget_that_is_used_up_stays_so_when_redis_goes(proxied):
    proxy, nodes = proxied
    user = new_id()
    async with asyncio.timeout(10):
        assert await storm(nodes, user) <= 60
        proxy.black_hole()
        assert await storm(nodes, user) == 0
        await proxy.heal()
        assert await storm(nodes, user) == 0


async def test_half_of_a_budget_that_is_used_up_stays_so_when_redis_goes(proxied):
    proxy, nodes = proxied
    user = new_id()
    async with asyncio.timeout(10):
        given = await storm(nodes, user, 30)
        assert given == 30
        proxy.black_hole()
        given += await storm(nodes, user)
        assert 45 <= given <= 66


async def test_a_node_that_ends_is_no_longer_counted(redis_url: str):
    async with nodes_on(redis_url, 2) as (first, second):
        await second.leave()
        await first.beat_once()
        assert first.nodes == 1
