"""A node, put together: the parts of the gateway on one set of adapters, or on their twins."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from domain.addresses import Proxies
from domain.event_log import EventLog
from domain.history import History
from domain.identity import Verify
from domain.origins import Origin
from domain.policy import Policy
from domain.presence import EphemeralThrottle, Registry
from domain.pubsub import Fanout, PubSub
from domain.revocations import Revocations, RevokedTokens
from domain.tickets import Tickets
from gateway.admission import Admission
from gateway.commands import Commands
from gateway.connection import Connections
from gateway.control import Answers, Control
from gateway.handshake import Identification
from gateway.hub import Hub
from gateway.leases import Leases
from gateway.limits import Limits
from gateway.presence import PresenceTracker
from gateway.pubsub_router import PubSubRouter
from gateway.receipts import Receipts
from gateway.replay_budget import ReplayBudget
from gateway.revocations import RevocationEnforcer
from gateway.room_sync import RoomSync
from gateway.send_queue import WriteBatcher
from gateway.server import Gateway
from gateway.typing import RemoteTyping, TypingTracker
from runtime.revocation_watch import Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """Ports that a node needs."""

    verify: Verify
    revoked: RevokedTokens
    revocations: Revocations
    tickets: Tickets
    history: History
    fanout: Fanout
    pubsub: PubSub
    registry: Registry
    throttle: EphemeralThrottle
    policy: Policy
    answers: Answers
    log: EventLog


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """Settings of a node; docs/settings.md explains them."""

    origins: frozenset[Origin] = frozenset()
    lease_s: float = 30.0
    presence_max_members: int = 64
    gap_check_interval_s: float = 2.0
    limits: Limits = field(default_factory=Limits)
    proxies: Proxies = field(default_factory=Proxies)
    revocation_poll_interval_s: float = 5.0
    compiled_send: bool = True


@dataclass(slots=True)
class Node:
    """Gateway node. ``services`` end only when they are cancelled."""

    gateway: Gateway
    receipts: Receipts
    leases: Leases
    control: Control
    revocations: Watch
    services: list[Callable[[], Coroutine[Any, Any, None]]] = field(default_factory=list)


def assemble(deps: Dependencies, config: GatewayConfig) -> Node:
    """Return a node that does nothing yet."""
    connections: Connections = {}
    typing = TypingTracker(deps.fanout, deps.throttle)
    batcher = WriteBatcher()
    hub = Hub(on_unsubscribe=typing.on_unsubscribe, batcher=batcher)
    budget = ReplayBudget(config.limits.replay_bytes_per_s, config.limits.replay_burst_bytes)
    rooms = RoomSync(hub, deps.history, deps.pubsub, config.gap_check_interval_s, budget)
    receipts = Receipts(deps.log)
    presence = PresenceTracker(
        deps.fanout,
        deps.history,
        deps.registry,
        deps.throttle,
        deps.policy,
        config.presence_max_members,
    )
    leases = Leases(connections, deps.registry, presence, config.lease_s)
    control = Control(connections, deps.answers)
    closing = RevocationEnforcer(connections, deps.revocations)
    revocations = Watch(deps.revocations, deps.revoked, config.revocation_poll_interval_s, closing)
    gateway = Gateway(
        identification=Identification(deps.verify, deps.tickets, deps.revoked),
        hub=hub,
        rooms=rooms,
        commands=Commands(deps.verify, hub, rooms, receipts, typing, presence, time.time),
        leases=leases,
        pubsub=deps.pubsub,
        origins=config.origins,
        clock=time.time,
        connections=connections,
        admission=Admission(config.limits, config.proxies),
        batcher=batcher,
        compiled_send=config.compiled_send,
    )
    services = [
        PubSubRouter(hub, rooms, RemoteTyping(hub), control, deps.pubsub, revocations, batcher).run,
        leases.run,
        rooms.run,
        receipts.run,
        revocations.run,
    ]
    return Node(gateway, receipts, leases, control, revocations, services)
