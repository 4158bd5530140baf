"""``python -m gateway``: sockets, and a share of the dispatching."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import fields

import structlog
import uvloop

from adapters.auth.factory import open_verifier, warn_of_secret
from adapters.auth.keys import BadKeys
from adapters.kafka.access import require_files
from adapters.kafka.admin import wait_for_topics
from adapters.kafka.consumer import open_consumer
from adapters.kafka.producer import open_log
from adapters.postgres.facts import PostgresFacts
from adapters.postgres.history import PostgresHistory
from adapters.postgres.pool import open_pool
from adapters.postgres.replica import Replica, open_replica
from adapters.postgres.revocations import PostgresRevocations
from adapters.postgres.skips import PostgresSkips
from adapters.postgres.tickets import PostgresTickets
from adapters.redis.gateway_directory import RedisAnswers
from adapters.redis.presence_throttle import RedisEphemeralThrottle
from adapters.redis.publisher import open_fanout
from adapters.redis.registry import open_registry
from adapters.redis.subscriptions import open_subscriptions
from domain.addresses import Proxies
from domain.errors import AccessRefused, Invalid, Unavailable
from domain.origins import allowed
from domain.revocations import RevokedTokens
from domain.skips import SkipList
from gateway.dispatcher import GROUP, READS, Dispatcher
from gateway.drain import OVER_S, Drain
from gateway.limits import Limits
from gateway.node import Dependencies, GatewayConfig, assemble
from gateway.server import start_server
from runtime.health import operator_server
from runtime.lifecycle import EX_TEMPFAIL, end_process, freeze_gc, inner_of, reason_of, until_told_to_stop
from runtime.policy import BadPolicy, open_policy
from runtime.read_settings import EX_CONFIG, process_settings
from runtime.settings import Settings, listed

_log = structlog.get_logger()

_WAIT_S = 60.0
_POOL = 8
_LAST_S = 1.0


async def run(settings: Settings) -> int:
    """Serve until told to stop; return the exit code."""
    ready, config, revoked = False, _config(settings), RevokedTokens()
    replica: Replica | None = None

    def warnings() -> Sequence[str]:
        return () if replica is None else replica.warnings()

    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        await enter(operator_server(settings.ops, "gateway", lambda: ready, warnings))
        policy = stack.enter_context(open_policy(settings.policy))
        verifier = await enter(open_verifier(settings.auth, revoked, wait_s=_WAIT_S))
        warn_of_secret(settings.auth, settings.ws.host)
        url, kafka = settings.redis.url.get_secret_value(), settings.kafka
        pg = settings.pg
        pool = await enter(open_pool(pg.dsn.get_secret_value(), size=_POOL, wait_s=None, is_pooled=pg.is_pooled))
        replica = await enter(open_replica(pg.replica_dsn.get_secret_value(), pool))
        history = PostgresHistory(pool, replica)
        fanout = await enter(open_fanout(url))
        subscriptions = await enter(open_subscriptions(url, settings.node))
        registry = await enter(open_registry(url, node=settings.node, lease_s=settings.gateway.lease_s))
        topics = [kind.TOPIC for kind in READS]
        await wait_for_topics(kafka, topics, _WAIT_S)
        log = await enter(open_log(kafka, client_id=f"millrace-{settings.node}"))
        consumer = await enter(open_consumer(kafka, topics=topics, group=GROUP))
        dependencies = Dependencies(
            verify=verifier.verify,
            revoked=revoked,
            revocations=PostgresRevocations(pool),
            tickets=PostgresTickets(pool),
            history=history,
            fanout=fanout,
            pubsub=subscriptions,
            registry=registry,
            throttle=RedisEphemeralThrottle(fanout.client, settings.node),
            policy=policy,
            answers=RedisAnswers(fanout.client),
            log=log,
        )
        node = assemble(dependencies, config)
        await node.revocations.read()
        skips = SkipList(PostgresSkips(pool), GROUP)
        services = [Dispatcher(consumer, fanout, PostgresFacts(pool), history, skips).run, *node.services]
        tasks = [asyncio.create_task(service()) for service in services]
        stop = asyncio.create_task(until_told_to_stop())
        drain = asyncio.create_task(node.control.until_drained())
        server = await start_server(node.gateway, settings.ws.host, settings.ws.port)
        freeze_gc()
        ready = True
        _log.info("node_ready", ws_port=settings.ws.port)
        done, _ = await asyncio.wait({stop, drain, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        ready = False
        _log.info("node_ending", connections=len(node.gateway.connections))
        node.gateway.draining = True  # a client that comes all the same gets a 503
        over_s = drain.result() if drain in done else OVER_S
        await asyncio.gather(node.leases.show_draining(), Drain(node.gateway.connections, stop).run(over_s))
        server.close(close_connections=False)
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_S):
                await server.wait_closed()
        for task in (*tasks, drain):
            task.cancel()
        await asyncio.gather(*tasks, drain, return_exceptions=True)
        await node.leases.leave()
        await node.receipts.flush()
        return _verdict([task for task in tasks if task in done])


def _config(settings: Settings) -> GatewayConfig:
    given = settings.gateway
    return GatewayConfig(
        origins=allowed(listed(given.origins)),
        lease_s=given.lease_s,
        presence_max_members=given.presence_max_members,
        gap_check_interval_s=given.gap_check_interval_s,
        limits=Limits(**{limit.name: getattr(given, limit.name) for limit in fields(Limits)}),
        proxies=Proxies.of(given.trusted_proxies),
        revocation_poll_interval_s=settings.auth.revocation_poll_interval_s,
        compiled_send=given.compiled_send,
    )


def _verdict(ended: Sequence[asyncio.Task[None]]) -> int:
    """Return the exit code: no service ends by itself; after one that did, the supervisor starts the process again."""
    for task in ended:
        exc = inner_of(task.exception())
        if isinstance(exc, AccessRefused):
            end_process(exc)
        _log.error("service_ended", reason=reason_of(exc), exc_info=task.exception())
    return EX_TEMPFAIL if ended else 0


def main() -> None:
    """Run the process."""
    settings = process_settings()
    try:
        require_files(settings.kafka)
        sys.exit(uvloop.run(run(settings)))
    except Unavailable as exc:
        end_process(exc)
    except (BadKeys, BadPolicy, Invalid) as exc:
        _log.error("settings_invalid", reason=str(exc))
        sys.exit(EX_CONFIG)


if __name__ == "__main__":
    main()
