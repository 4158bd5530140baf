"""A node, put together: the parts of the gateway on one set of adapters, or on their twins."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from domain.event_log import EventLog
from domain.history import History
from domain.identity import Verify
from domain.presence import Registry, Signs
from domain.pubsub import Fanout, Subscriptions
from domain.revocations import Revocations, RevokedTokens
from domain.tickets import Tickets
from gateway.admission import Admission, Proxies
from gateway.commands import Commands
from gateway.connection import Connections
from gateway.control import Answers, Control
from gateway.handshake import Identification
from gateway.hub import Hub
from gateway.leases import Leases
from gateway.limits import Limits
from gateway.origins import Origin
from gateway.presence import PresenceDesk
from gateway.pubsub_router import Listener
from gateway.receipts import Receipts
from gateway.revocations import Closing
from gateway.room_sync import Rooms
from gateway.server import Gateway
from gateway.typing import Heard, TypingDesk
from runtime.revocation_watch import Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What a node talks to."""

    verify: Verify
    revoked: RevokedTokens
    revocations: Revocations
    tickets: Tickets
    history: History
    fanout: Fanout
    subscriptions: Subscriptions
    registry: Registry
    signs: Signs
    answers: Answers
    log: EventLog


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How a node behaves; what the names mean stands at the settings of the gateway."""

    origins: frozenset[Origin] = frozenset()
    lease_s: float = 30.0
    presence_max_members: int = 64
    heads_every_s: float = 2.0
    limits: Limits = field(default_factory=Limits)
    proxies: Proxies = field(default_factory=Proxies)
    revocations_every_s: float = 5.0


@dataclass(slots=True)
class Node:
    """One gateway. ``works`` end only when they are cancelled."""

    gateway: Gateway
    receipts: Receipts
    leases: Leases
    control: Control
    revocations: Watch
    works: list[Callable[[], Coroutine[Any, Any, None]]] = field(default_factory=list)


def assemble(world: World, habits: Habits) -> Node:
    """A node that does nothing yet."""
    connections: Connections = {}
    typing = TypingDesk(world.fanout, world.signs)
    hub = Hub(parted=typing.parted)
    rooms = Rooms(hub, world.history, world.subscriptions, habits.heads_every_s)
    receipts = Receipts(world.log)
    presence = PresenceDesk(world.fanout, world.history, world.registry, world.signs, habits.presence_max_members)
    leases = Leases(connections, world.registry, presence, habits.lease_s)
    control = Control(connections, world.answers)
    closing = Closing(connections, world.revocations)
    revocations = Watch(world.revocations, world.revoked, habits.revocations_every_s, closing)
    gateway = Gateway(
        identification=Identification(world.verify, world.tickets, world.revoked),
        hub=hub,
        rooms=rooms,
        commands=Commands(world.verify, hub, rooms, receipts, typing, presence, time.time),
        leases=leases,
        subscriptions=world.subscriptions,
        origins=habits.origins,
        clock=time.time,
        connections=connections,
        admission=Admission(habits.limits, habits.proxies),
    )
    works = [
        Listener(hub, rooms, Heard(hub), control, world.subscriptions, revocations, gateway.outlet).run,
        leases.run,
        rooms.run,
        receipts.run,
        revocations.run,
    ]
    return Node(gateway, receipts, leases, control, revocations, works)
