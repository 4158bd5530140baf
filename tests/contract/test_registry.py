"""Who is connected where, and what is told of it: twins, Valkey alone and a Redis Cluster keep the same promises."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from redis.crc import key_slot

from adapters.redis import gateway_directory as nodes
from adapters.redis.client import connect
from adapters.redis.registry import RedisRegistry, open_registry
from adapters.redis.slot_client import tagged
from adapters.redis.target import target
from domain.presence import Entry, Registry
from schemas.ids import new_id
from tests.contract.conftest import entry, now
from tests.rediscluster import RedisCluster

LEASE_S = 0.5


async def cleared(registry: Registry, user: str) -> None:
    """Until this user is among those who are gone."""
    async with asyncio.timeout(10):
        while user not in await registry.clear():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_user_is_connected_from_the_first_connection_to_the_last(registry):
    one = entry()
    two = replace(entry(), user_id=one.user_id)
    user = one.user_id
    assert await registry.connected([user]) == frozenset()
    assert await registry.register(one)
    assert not await registry.register(two)
    assert await registry.connected([user, "nobody"]) == frozenset({user})
    assert not await registry.unregister(one.connection_id, user, now())
    assert await registry.unregister(two.connection_id, user, now())
    assert await registry.connected([user]) == frozenset()


@pytest.mark.parametrize("form", ["auth0|{}", "jane+{}@example.com", "a/b:{{c}}={}", "}}{{{}", "}}{}"])
async def test_a_user_id_may_have_any_visible_character(registry, form: str):
    one = entry(form.format(new_id()))
    assert await registry.register(one)
    assert await registry.connected([one.user_id]) == {one.user_id}
    ended = now()
    assert await registry.unregister(one.connection_id, one.user_id, ended)
    assert await registry.last_seen([one.user_id]) == {one.user_id: ended}


async def test_last_seen_is_when_the_last_connection_ended(registry):
    one = entry()
    await registry.register(one)
    assert await registry.last_seen([one.user_id]) == {}
    ended = now() - 5000  # told late
    await registry.unregister(one.connection_id, one.user_id, ended)
    assert await registry.last_seen([one.user_id, "nobody"]) == {one.user_id: ended}


async def test_what_a_dead_node_held_counts_no_more_and_is_cleared_by_another(open_node):
    dead, other = await open_node(lease_s=LEASE_S), await open_node(lease_s=LEASE_S)
    ghost, elsewhere = entry(), entry()
    await dead.renew([])
    for one in (ghost, elsewhere):
        await dead.register(one)
    again = replace(entry(), user_id=elsewhere.user_id)
    await other.register(again)
    last = time.time() * 1000
    assert await other.connected([ghost.user_id]) == {ghost.user_id}
    async with asyncio.timeout(LEASE_S + 1):
        while ghost.user_id in await other.connected([ghost.user_id]):
            await other.renew([again])
            await asyncio.sleep(0.02)
    async with asyncio.timeout(5):
        away: list[str] = []
        while ghost.user_id not in away:
            await other.renew([again])
            away += await other.clear()
    assert elsewhere.user_id not in away, "this one has another connection"
    assert await other.connected([ghost.user_id, elsewhere.user_id]) == {elsewhere.user_id}
    seen = await other.last_seen([ghost.user_id, elsewhere.user_id])
    assert abs(seen[ghost.user_id] - last) < 250, "the last renewal is the last that was seen of them"
    assert ghost.user_id not in await other.clear()


async def test_what_is_renewed_outlives_its_lease(open_node):
    node, other = await open_node(lease_s=LEASE_S), await open_node(lease_s=LEASE_S)
    one = entry()
    await node.register(one)
    until = time.monotonic() + 2 * LEASE_S
    while time.monotonic() < until:
        await node.renew([one])
        assert one.user_id not in await other.clear()
        assert await other.connected([one.user_id]) == {one.user_id}
        await asyncio.sleep(LEASE_S / 6)


async def test_a_node_that_comes_back_under_its_name_revives_nothing(open_node):
    killed = await open_node("same", lease_s=30)
    ghost = entry()
    await killed.renew([])
    await killed.register(ghost)
    again = await open_node("same", lease_s=30)
    assert await again.renew([])
    assert ghost.user_id in await again.clear()
    assert await again.connected([ghost.user_id]) == frozenset()
    assert ghost.user_id in await again.last_seen([ghost.user_id])
    fresh = replace(entry(), user_id=ghost.user_id)
    assert await again.register(fresh)
    assert await again.connected([ghost.user_id]) == {ghost.user_id}


async def test_two_nodes_under_one_name_do_not_clear_each_other_for_ever(open_node):
    one, two = await open_node("doubled"), await open_node("doubled")
    held = entry()
    await one.register(held)
    for node in (one, two):
        await node.renew([])
        await node.clear()
    await one.renew([held])
    for node in (two, one, two):
        assert held.user_id not in await node.clear()
    assert await two.connected([held.user_id]) == {held.user_id}
    await one.leave([])
    await two.leave([])


async def test_a_node_that_was_forgotten_is_told_so_and_puts_everything_back(open_node):
    frozen, other = await open_node(lease_s=LEASE_S), await open_node()
    one = entry()
    assert await frozen.renew([])
    await frozen.register(one)
    assert not await frozen.renew([one])
    await cleared(other, one.user_id)
    assert await frozen.renew([one])
    assert await other.connected([one.user_id]) == {one.user_id}


async def test_a_node_that_leaves_leaves_nothing(open_node):
    leaving, other = await open_node(), await open_node()
    one = entry()
    await leaving.renew([])
    await leaving.register(one)
    await leaving.leave([])
    assert await other.connected([one.user_id]) == frozenset()
    await cleared(other, one.user_id)
    assert one.user_id in await other.last_seen([one.user_id])
    assert await leaving.renew([]), "it was gone"
    await leaving.leave([])


async def test_whom_a_node_that_leaves_could_not_tell_of_another_one_hears_of(open_node):
    leaving, other = await open_node(), await open_node()
    gone, elsewhere = entry(), entry()
    await leaving.renew([])
    for one in (gone, elsewhere):
        await leaving.register(one)
        await leaving.unregister(one.connection_id, one.user_id, now())
    ended = await other.last_seen([gone.user_id])
    await other.register(replace(entry(), user_id=elsewhere.user_id))
    await leaving.leave([gone.user_id, elsewhere.user_id])
    away: list[str] = []
    async with asyncio.timeout(5):
        while gone.user_id not in away:
            away += await other.clear()
    assert elsewhere.user_id not in away
    assert await other.last_seen([gone.user_id]) == ended


# what operators see, and what only a real server can lose


async def test_operators_see_gateways_and_connections(url: str):
    async with open_registry(url, node=f"seen-{new_id()}", lease_s=30) as registry:
        mine, others = entry(device="laptop"), entry()
        await registry.renew([])
        for one in (mine, others):
            await registry.register(one)
        servers = registry.client
        [node] = [one for one in await nodes.gateways(servers) if one.node == registry.node]
        assert (node.connections, node.draining) == (2, False)
        await registry.renew([mine, others], draining=True)
        [node] = [one for one in await nodes.gateways(servers) if one.node == registry.node]
        assert node.draining
        held = await nodes.connections(servers, node=registry.node)
        assert {one.connection_id for one in held} == {mine.connection_id, others.connection_id}
        [shown] = await nodes.connections(servers, user=mine.user_id)
        assert (shown.connection_id, shown.node, shown.device, shown.since_ms) == (
            mine.connection_id,
            registry.node,
            "laptop",
            mine.since_ms,
        )
        assert await nodes.connection(servers, mine.connection_id) == shown
        await registry.leave([])
        assert await nodes.connections(servers, node=registry.node) == []
        assert registry.node not in {one.node for one in await nodes.gateways(servers)}


async def test_after_a_flush_one_renewal_tells_all_again(url: str):
    async with open_registry(url, node=f"flushed-{new_id()}", lease_s=30) as registry:
        many = [entry() for _ in range(250)]
        await registry.renew(many)
        for address in target(url).nodes:
            client = connect(target(url), address)
            await client.flushdb()
            await client.aclose()
        assert await registry.connected([one.user_id for one in many]) == frozenset()
        assert await registry.renew(many)
        assert len(await registry.connected([one.user_id for one in many])) == len(many)
        await registry.leave([])


async def test_entries_are_read_as_they_are_renewed(url: str):
    """So that one that ends meanwhile is not put back."""
    async with open_registry(url, node=f"lazy-{new_id()}", lease_s=30) as registry:
        many, read = [entry() for _ in range(1000)], []

        def as_needed() -> Iterator[Entry]:
            for one in many:
                read.append(one)
                yield one

        renewing = asyncio.create_task(registry.renew(as_needed()))
        while not await registry.connected([many[0].user_id]):  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert len(read) < len(many)
        await renewing
        assert len(read) == len(many)
        await registry.leave([])


@pytest.mark.slow
async def test_five_thousand_renewals_do_not_hold_up_the_rest_of_the_process(redis_url: str):
    async with open_registry(redis_url, node=f"large-{new_id()}", lease_s=30) as registry:
        many = [entry(f"user-{n % 4000}") for n in range(5000)]
        renewing = asyncio.create_task(registry.renew(many))
        worst, before = 0.0, time.perf_counter()
        while not renewing.done():
            await asyncio.sleep(0)
            worst, before = max(worst, time.perf_counter() - before), time.perf_counter()
        await renewing
        assert worst < 0.25, f"held up for {worst:.3f} s"
        assert len(await registry.connected([f"user-{n}" for n in range(4000)])) == 4000
        await registry.leave([])
        assert await registry.connected([f"user-{n}" for n in range(4000)]) == frozenset()


async def test_one_user_is_found_on_any_node_and_the_keys_of_one_lie_together(redis_cluster: RedisCluster):
    users = [new_id() for _ in range(30)]
    async with open_registry(redis_cluster.url, node="n1", lease_s=30) as registry:
        for user in users:
            assert await registry.register(entry(user))
        assert await registry.connected([*users, "nobody"]) == frozenset(users)
        await registry.leave([])
    assert key_slot(tagged("user:a:b:connected").encode()) == key_slot(tagged("user:a:b:messages").encode())


def test_the_life_is_part_of_no_public_name():
    made = RedisRegistry(None, "gateway-1", 30)  # type: ignore[arg-type]
    assert made.life.startswith("gateway-1/")
