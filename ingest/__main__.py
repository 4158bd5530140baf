"""Entry point ``python -m ingest``: the HTTP API and a relay in one process."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, fields
from functools import partial

import structlog
import uvloop
from starlette.types import ASGIApp

from adapters.auth.factory import open_verifier, warn_of_secret
from adapters.auth.keys import BadKeys
from adapters.auth.signed_urls import open_signed_urls
from adapters.files import open_files
from adapters.kafka.access import require_files
from adapters.kafka.log_position import open_positions
from adapters.kafka.producer import open_log
from adapters.kafka.reader import open_reader
from adapters.postgres.analytics import PostgresCounts
from adapters.postgres.conversations import PostgresConversations
from adapters.postgres.history import PostgresHistory
from adapters.postgres.idempotency import PostgresIdempotencyKeys
from adapters.postgres.intake import PostgresIntake
from adapters.postgres.invitations import PostgresInvitations
from adapters.postgres.media import PostgresMedia
from adapters.postgres.messages import PostgresMessages
from adapters.postgres.notifications import PostgresNotifications
from adapters.postgres.outbox import announce, announcements, oldest_unpublished, open_outbox
from adapters.postgres.pool import Pool, open_pool, require_session
from adapters.postgres.receipts import PostgresReceipts
from adapters.postgres.replica import Replica, open_replica
from adapters.postgres.retention import PostgresPruning
from adapters.postgres.revocations import PostgresRevocations
from adapters.postgres.search import PostgresSearch
from adapters.postgres.tickets import PostgresTickets
from adapters.redis.rates import open_rates
from adapters.redis.subscriptions import open_subscriptions
from domain.addresses import Proxies
from domain.downloads import SignedUrls
from domain.errors import Invalid
from domain.identity import Verify
from domain.media import Blobs
from domain.origins import Origin, allowed
from domain.policy import Policy
from domain.retention import rules_of
from domain.revocations import RevokedTokens
from domain.uploads import BadStore, UploadStore
from ingest.accept import Accept
from ingest.http.app import Dependencies, create_app
from ingest.http.auth import CallerAuth
from ingest.http.concurrency import CallSlots
from ingest.http.cors import cors_fields
from ingest.http.media import MediaEndpoints
from ingest.http.opening import Opening
from ingest.limits import budgets, media_limits, strangers
from ingest.loss_detection import LossDetector
from ingest.outbox_age import OutboxAge
from ingest.relay import Relay, wake_on_announcements
from ingest.relay_metrics import count_loss, show_partitions
from ingest.relay_wakeup import RelayNotifier
from ingest.store_check import StoreCheck
from runtime.health import operator_server
from runtime.http.limits import Connections, HttpLimits
from runtime.http.server import http_server
from runtime.lifecycle import until_told_to_stop
from runtime.metrics import ACCEPTED, OLDEST_UNPUBLISHED, RELAYED, STORE_BEHIND
from runtime.policy import BadPolicy, open_policy
from runtime.read_settings import EX_CONFIG, process_settings
from runtime.retention import Pruning
from runtime.revocation_watch import Watch
from runtime.settings import Settings, listed
from runtime.tasks import Tasks
from schemas.topics import load

_log = structlog.get_logger()

_MESSAGES, _OTHERS = 5, 5
"""Connections for messages (two batches, and three that wait for a lock), which other calls cannot take."""
_WAIT_S = 60.0
_TURN_S, _STATEMENT_S, _LOCK_S = 1.0, 2.0, 1.0
"""Seconds for a connection, a statement and a lock: a call is answered within 3 s, whatever the store does."""


@asynccontextmanager
async def open_relay(settings: Settings) -> AsyncIterator[Relay]:
    """Run a relay while the block runs."""
    dsn = settings.pg.session_dsn
    async with (
        open_log(settings.kafka, client_id="millrace-relay") as log,
        open_positions(settings.kafka, load(), "relay") as positions,
    ):
        declared = {topic.name: topic.partitions for topic in load()}
        detector = LossDetector(
            positions, count_loss, partitions=declared, on_partitions=partial(show_partitions, declared)
        )
        reader = partial(open_reader, settings.kafka, client_id="millrace-relay")
        check = StoreCheck(positions, reader, STORE_BEHIND.set)
        relay = Relay(partial(open_outbox, dsn), log, detector, count=RELAYED.inc, store_check=check)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(relay.run()),
                group.create_task(wake_on_announcements(relay, partial(announcements, dsn))),
            ]
            try:
                yield relay
            finally:
                for task in tasks:
                    task.cancel()


@asynccontextmanager
async def open_revoked(settings: Settings, pool: Pool, revoked: RevokedTokens) -> AsyncIterator[None]:
    """Keep ``revoked`` current while the block runs. Raises Unavailable."""
    watch = Watch(PostgresRevocations(pool), revoked, settings.auth.revocation_poll_interval_s)
    await watch.read()
    url = settings.redis.url.get_secret_value()
    async with open_subscriptions(url, settings.node) as subscriptions, asyncio.TaskGroup() as group:
        tasks = [group.create_task(work) for work in (watch.run(), watch.follow(subscriptions))]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


@dataclass(frozen=True, slots=True)
class Files:
    """Files, uploads under way, and what signs URLs of files."""

    blobs: Blobs
    uploads: UploadStore
    urls: SignedUrls


async def _open_files(settings: Settings) -> Files:
    """Open what the settings of files name. Raises BadStore, Invalid, Unavailable."""
    urls = open_signed_urls(settings.media)
    blobs, uploads = await open_files(settings.media, settings.data_dir, wait_s=_WAIT_S)
    return Files(blobs, uploads, urls)


@asynccontextmanager
async def open_app(
    settings: Settings,
    pool: Pool,
    messages: Pool,
    relay: Relay,
    verify: Verify,
    policy: Policy,
    files: Files,
    replica: Replica | None,
) -> AsyncIterator[ASGIApp]:
    """Yield the application with all calls, wired to their adapters; ``messages`` is the pool that stores messages."""
    notifier = RelayNotifier(relay, partial(announce, pool))
    invitations = PostgresInvitations(pool)
    async with open_rates(settings.redis.url.get_secret_value(), settings.node) as rates:
        limits = budgets(settings.limits)
        auth = CallerAuth(verify, rates, limits, strangers(settings.limits), files.urls)
        slots = CallSlots(settings.http.calls_per_user, settings.http.messages_per_user)
        dependencies = Dependencies(
            accept=Accept(PostgresIntake(messages), notifier.on_committed, ACCEPTED.inc),
            changed=notifier.on_change,
            history=PostgresHistory(pool),
            messages=PostgresMessages(pool, replica),
            conversations=PostgresConversations(pool, replica),
            invitations=invitations,
            relations=invitations,
            policy=policy,
            most_invitations=settings.policy.open_invitations,
            receipts=PostgresReceipts(pool, settings.devices_per_member),
            search=PostgresSearch(pool, replica),
            inbox=PostgresNotifications(pool, replica),
            counts=PostgresCounts(pool, replica),
            tickets=PostgresTickets(pool),
            rates=rates,
            budgets=limits,
            keys=PostgresIdempotencyKeys(pool),
            media=MediaEndpoints(
                PostgresMedia(pool),
                files.blobs,
                files.uploads,
                media_limits(settings.media),
                notifier.on_change,
                files.urls,
            ),
        )
        age = OutboxAge(partial(oldest_unpublished, pool))
        OLDEST_UNPUBLISHED.set_function(age.seconds)
        tasks = Tasks()
        tasks.spawn(age.run())
        tasks.spawn(dependencies.media.tidy())
        kept = settings.retention.kept()
        tasks.spawn(Pruning(PostgresPruning(pool, kept).prune, rules_of("ingest", kept)).run())
        try:
            yield create_app(auth, slots, dependencies.endpoints(), _origins(settings))
        finally:
            tasks.cancel()
        await dependencies.accept.drain()


def _open_pool(settings: Settings, name: str, size: int) -> AbstractAsyncContextManager[Pool]:
    return open_pool(
        settings.pg.dsn.get_secret_value(),
        name=name,
        size=size,
        wait_s=None,
        turn_s=_TURN_S,
        statement_s=_STATEMENT_S,
        lock_s=_LOCK_S,
        is_pooled=settings.pg.is_pooled,
    )


def _origins(settings: Settings) -> frozenset[Origin]:
    return allowed(listed(settings.gateway.origins))


def _bounds(settings: Settings) -> Connections:
    limits = HttpLimits(**{limit.name: getattr(settings.http, limit.name) for limit in fields(HttpLimits)})
    cors = partial(cors_fields, origins=_origins(settings))
    return Connections(limits, Proxies.of(settings.gateway.trusted_proxies), cors)


async def run(settings: Settings) -> None:
    """Serve until told to stop."""
    ready, revoked = False, RevokedTokens()
    relay: Relay | None = None
    replica: Replica | None = None

    def warnings() -> Sequence[str]:
        of_relay = () if relay is None else relay.warnings
        return (*of_relay, *(() if replica is None else replica.warnings()))

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(operator_server(settings.ops, "ingest", lambda: ready, warnings))
        policy = stack.enter_context(open_policy(settings.policy))
        files = await _open_files(settings)
        verifier = await stack.enter_async_context(open_verifier(settings.auth, revoked, wait_s=_WAIT_S))
        opening, http = Opening(_origins(settings)), settings.http
        warn_of_secret(settings.auth, http.host)
        # The server ends before all that its calls need.
        async with http_server(opening, http.host, http.port, _bounds(settings)):
            pool, messages = [
                await stack.enter_async_context(_open_pool(settings, name, size))
                for name, size in (("others", _OTHERS), ("messages", _MESSAGES))
            ]
            replica = await stack.enter_async_context(open_replica(settings.pg.replica_dsn.get_secret_value(), pool))
            await stack.enter_async_context(open_revoked(settings, pool, revoked))
            await require_session(settings.pg.session_dsn)
            relay = await stack.enter_async_context(open_relay(settings))
            opening.app = await stack.enter_async_context(
                open_app(settings, pool, messages, relay, verifier.verify, policy, files, replica)
            )
            ready = True
            _log.info("node_ready", http_port=http.port)
            await until_told_to_stop()
            ready = False
            _log.info("node_ending", shards=len(relay.shards))


def main() -> None:
    """Run the process until it is told to stop."""
    settings = process_settings()
    try:
        require_files(settings.kafka)
        uvloop.run(run(settings))
    except (BadKeys, BadPolicy, BadStore, Invalid) as exc:
        _log.error("settings_invalid", reason=str(exc))
        sys.exit(EX_CONFIG)


if __name__ == "__main__":
    main()
