"""``python -m gateway``: sockets, and a share of the dispatching."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import fields

import structlog
import uvloop

from adapters.auth.factory import open_verifier
from adapters.auth.keys import BadKeys
from adapters.kafka.admin import wait_for_topics
from adapters.kafka.consumer import open_consumer
from adapters.kafka.producer import open_log
from adapters.postgres.history import PostgresHistory
from adapters.postgres.pool import open_pool
from adapters.postgres.revocations import PostgresRevocations
from adapters.postgres.tickets import PostgresTickets
from adapters.redis.gateway_directory import RedisAnswers
from adapters.redis.presence_throttle import RedisSigns
from adapters.redis.publisher import open_fanout
from adapters.redis.registry import open_registry
from adapters.redis.subscriptions import open_subscriptions
from domain.errors import Invalid
from domain.revocations import RevokedTokens
from gateway.admission import Proxies
from gateway.dispatcher import GROUP, READS, Dispatcher
from gateway.drain import OVER_S, Drain
from gateway.limits import Limits
from gateway.node import Habits, World, assemble
from gateway.origins import allowed
from gateway.server import start_server
from runtime.health import operator_server
from runtime.lifecycle import settled, until_told_to_stop
from runtime.logs import configure
from runtime.settings import Settings

_log = structlog.get_logger()

_WAIT_S = 60.0
_POOL = 8
_LAST_S = 1.0
EX_TEMPFAIL, EX_CONFIG = 75, 78


async def run(settings: Settings) -> int:
    """Serve until told to stop; returns the exit code."""
    ready, habits, revoked = False, _habits(settings), RevokedTokens()
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        await enter(operator_server(settings.ops, lambda: ready))
        verifier = await enter(open_verifier(settings.auth, revoked, wait_s=_WAIT_S))
        url, bootstrap = settings.redis.url.get_secret_value(), settings.kafka.bootstrap
        pool = await enter(open_pool(settings.pg.dsn.get_secret_value(), size=_POOL, wait_s=_WAIT_S))
        history = PostgresHistory(pool)
        fanout = await enter(open_fanout(url))
        subscriptions = await enter(open_subscriptions(url, settings.node))
        registry = await enter(open_registry(url, node=settings.node, lease_s=settings.gateway.lease_s))
        topics = [kind.TOPIC for kind in READS]
        await wait_for_topics(bootstrap, topics, _WAIT_S)
        log = await enter(open_log(bootstrap, client_id=f"millrace-{settings.node}"))
        consumer = await enter(open_consumer(bootstrap, topics=topics, group=GROUP))
        world = World(
            verify=verifier.verify,
            revoked=revoked,
            revocations=PostgresRevocations(pool),
            tickets=PostgresTickets(pool),
            history=history,
            fanout=fanout,
            subscriptions=subscriptions,
            registry=registry,
            signs=RedisSigns(fanout.servers, settings.node),
            answers=RedisAnswers(fanout.servers),
            log=log,
        )
        node = assemble(world, habits)
        await node.revocations.read()
        works = [Dispatcher(consumer, fanout, history).run, *node.works]
        tasks = [asyncio.create_task(work()) for work in works]
        told, asked = asyncio.create_task(until_told_to_stop()), asyncio.create_task(node.control.until_drained())
        server = await start_server(node.gateway, settings.ws.host, settings.ws.port)
        settled()
        ready = True
        done, _ = await asyncio.wait({told, asked, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        ready = False
        node.gateway.draining = True  # who comes all the same is told so: a 503
        over_s = asked.result() if asked in done else OVER_S
        await asyncio.gather(node.leases.say_draining(), Drain(node.gateway.connections, told).run(over_s))
        server.close(close_connections=False)
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_S):
                await server.wait_closed()
        for task in (*tasks, asked):
            task.cancel()
        await asyncio.gather(*tasks, asked, return_exceptions=True)
        await node.leases.leave()
        await node.receipts.flush()
        return _verdict([task for task in tasks if task in done])


def _habits(settings: Settings) -> Habits:
    asked = settings.gateway
    return Habits(
        origins=allowed(filter(None, map(str.strip, asked.origins.split(",")))),
        lease_s=asked.lease_s,
        presence_max_members=asked.presence_max_members,
        heads_every_s=asked.heads_every_s,
        limits=Limits(**{limit.name: getattr(asked, limit.name) for limit in fields(Limits)}),
        proxies=Proxies.of(asked.trusted_proxies),
        revocations_every_s=settings.auth.revocations_every_s,
    )


def _verdict(ended: Sequence[asyncio.Task[None]]) -> int:
    """None of the works ends by itself; if one did, the supervisor starts the process again."""
    for task in ended:
        _log.error("a part of the gateway ended", error=type(task.exception()).__name__, exc_info=task.exception())
    return EX_TEMPFAIL if ended else 0


def main() -> None:
    """The process."""
    settings = Settings()
    configure(settings.node, settings.log_level)
    try:
        sys.exit(uvloop.run(run(settings)))
    except (BadKeys, Invalid) as exc:
        _log.error("the settings cannot work", why=str(exc))
        sys.exit(EX_CONFIG)


if __name__ == "__main__":
    main()
