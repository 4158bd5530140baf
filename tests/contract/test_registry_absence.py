"""Users who are certainly away: nobody is, until a registry has been whole for some time."""

from __future__ import annotations

import asyncio

from adapters.redis.client import connect
from adapters.redis.registry import RedisRegistry, open_registry
from adapters.redis.target import Target, target
from schemas.ids import new_id
from tests.contract.conftest import Open, entry, now
from tests.rediscluster import RedisCluster

LEASE_S = 0.5


async def flushed(servers: Target, which: slice = slice(None)) -> None:
    """Empty the servers of a Redis, or some of them."""
    for address in servers.nodes[which]:
        client = connect(servers, address)
        await client.flushdb()
        await client.aclose()


async def test_who_has_no_connection_is_away_once_a_registry_has_been_whole_for_some_time(open_node: Open):
    registry, one = await open_node(lease_s=LEASE_S), entry()
    if isinstance(registry, RedisRegistry):  # others have leases of half a minute there
        await flushed(registry.client.target)
    await registry.renew([one])
    async with asyncio.timeout(LEASE_S + 5):
        while await registry.away([one.user_id, "nobody"]) != {"nobody"}:
            await registry.renew([one])
            await asyncio.sleep(0.02)
    await registry.unregister(one.connection_id, one.user_id, now())
    assert await registry.away([one.user_id, "nobody"]) == {one.user_id, "nobody"}


async def test_after_a_flush_nobody_is_away_until_all_nodes_have_had_time_to_come_back(url: str):
    async with (
        open_registry(url, node=f"first-{new_id()}", lease_s=1.0) as first,
        open_registry(url, node=f"second-{new_id()}", lease_s=1.0) as second,
    ):
        mine, others = entry(), entry()
        users = [mine.user_id, others.user_id, "nobody"]
        await flushed(target(url))

        async def settled() -> None:
            async with asyncio.timeout(5):
                while await first.away(users) != {"nobody"}:
                    await asyncio.gather(first.renew([mine]), second.renew([others]))
                    await asyncio.sleep(0.02)

        await settled()
        for which in (slice(None), slice(1)):  # of a cluster, also one server alone
            await flushed(target(url), which)
            assert await first.away(users) == frozenset()
            assert await first.forgets()
            await first.renew([mine])  # the other one has not noticed yet
            assert await first.away(users) == frozenset()
            assert await second.forgets()
            await settled()
            assert (await first.forgets(), await second.forgets()) == (False, False)


async def test_each_server_of_a_cluster_has_a_mark(redis_cluster: RedisCluster):
    async with open_registry(redis_cluster.url, node=f"marks-{new_id()}", lease_s=30) as registry:
        await registry.renew([])
        owners = {registry.client.owner(registry._whole(number)) for number in range(16)}
        assert owners == registry.client.owners
