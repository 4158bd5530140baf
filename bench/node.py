"""``python -m bench.node``: a real gateway on a real Redis and PostgreSQL, without Kafka.

``python -m gateway`` runs the same with a Kafka consumer; here messages come by Redis alone. Receipts, which no metric
sends, would stay in memory.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import uvloop

from adapters.auth.factory import open_verifier
from adapters.memory.log import MemoryLog
from adapters.postgres.history import PostgresHistory
from adapters.postgres.pool import open_pool
from adapters.postgres.revocations import PostgresRevocations
from adapters.postgres.tickets import PostgresTickets
from adapters.redis.gateway_directory import RedisAnswers
from adapters.redis.presence_throttle import RedisEphemeralThrottle
from adapters.redis.publisher import open_fanout
from adapters.redis.registry import open_registry
from adapters.redis.subscriptions import open_subscriptions
from domain.policies import CompanyPolicy
from domain.revocations import RevokedTokens
from gateway.limits import Limits
from gateway.node import Dependencies, GatewayConfig, assemble
from gateway.server import start_server
from runtime.lifecycle import freeze_gc, until_told_to_stop
from runtime.logs import configure
from runtime.read_settings import read_settings
from runtime.settings import Settings

FROM_ONE_MACHINE = Limits(
    max_connections=0,
    connections_per_user=0,
    connections_per_address=0,
    connects_per_s_user=0,
    connects_per_s_address=0,
    replay_bytes_per_s=0,
)
"""Limits for a load whose clients share one address and few users."""


async def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        url = settings.redis.url.get_secret_value()
        pool = await enter(open_pool(settings.pg.dsn.get_secret_value(), size=8, wait_s=30))
        fanout = await enter(open_fanout(url))
        revoked = RevokedTokens()
        verifier = await enter(open_verifier(settings.auth, revoked, wait_s=30))
        world = Dependencies(
            verify=verifier.verify,
            revoked=revoked,
            revocations=PostgresRevocations(pool),
            tickets=PostgresTickets(pool),
            history=PostgresHistory(pool),
            fanout=fanout,
            pubsub=await enter(open_subscriptions(url, settings.node)),
            registry=await enter(open_registry(url, node=settings.node, lease_s=settings.gateway.lease_s)),
            throttle=RedisEphemeralThrottle(fanout.client, settings.node),
            policy=CompanyPolicy(),
            answers=RedisAnswers(fanout.client),
            log=MemoryLog(),
        )
        config = GatewayConfig(limits=FROM_ONE_MACHINE, compiled_send=settings.gateway.compiled_send)
        node = assemble(world, config)
        tasks = [asyncio.create_task(work()) for work in node.services]
        await start_server(node.gateway, settings.ws.host, settings.ws.port)
        freeze_gc()
        print("ready", flush=True)
        await until_told_to_stop()
        for task in tasks:
            task.cancel()


if __name__ == "__main__":
    settings = read_settings()
    configure(settings.node, "error")
    uvloop.run(run(settings))
