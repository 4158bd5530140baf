"""The registry of faults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from schemas.topics import groups, load, stages
from verify.attacks import ATTACKS
from verify.faults.clock import StepClock
from verify.faults.disk import PLACES, FullDisk
from verify.faults.fault import Fault, kind_of
from verify.faults.hostile import Hostile
from verify.faults.network import WITHIN, Blackhole, Cut, CutAt, Refuse, Slices, Slow, Split
from verify.faults.poison import Poison
from verify.faults.process import Blackout, Kill, KillAgain, Pause, Reload, Terminate
from verify.faults.redis import CutSubscribers, FlushRedis
from verify.faults.storage import KillLeader, LoseFolder, WipeBroker
from verify.faults.target import NotPossible, Process, Target, target_of
from verify.faults.traps import STAGES, KillInAppend, KillInEffect, KillUnflushed

__all__ = ["FAULTS", "Fault", "NotPossible", "Process", "Target", "fault", "kind_of", "target_of"]

OURS = ("ingest", "gateway", *stages())
SERVERS = ("postgres", "kafka", "valkey")
OF_CLUSTERS = ("haproxy", "postgres-replica")
CLIENT_LINKS = {"http": ("http", "ingest"), "ws": ("ws", "gateway")}
"""Links of clients, each with the roles that seem broken from there."""
REDIS_LINKS = ("ingest-valkey", "gateway-valkey")

_LONG_S = 35.0
"""Longer than the session of a Kafka client, a lease (30 s), and the time-outs of idle sessions and links (20 s)."""


def _topics_read() -> list[str]:
    """Return the topics that a stage or the gateway reads."""
    return [topic.name for topic in load() if set(topic.readers) & set(groups())]


def _registry() -> dict[str, Callable[[], Fault]]:
    edges = {server: (server,) for server in SERVERS} | CLIENT_LINKS
    made: list[Callable[[], Fault]] = [
        *(partial(kind, role=role) for kind in (Kill, Pause) for role in (*OURS, *SERVERS, *OF_CLUSTERS)),
        *(partial(Terminate, role=role) for role in OURS),
        *(partial(Terminate, role=role, single_process=False, recover_s=40.0) for role in SERVERS),
        *(partial(KillAgain, role=role) for role in (*OURS, *SERVERS)),
        *(
            partial(Pause, role=role, lasts_s=_LONG_S, suffix="-long", single_process=False)
            for role in (*OURS, *SERVERS)
        ),
        partial(Blackout, targets=(*OURS, "audit", *SERVERS, *OF_CLUSTERS, *CLIENT_LINKS)),
        partial(Reload, role="haproxy"),
        *(partial(kind, edge=edge, roles=roles) for kind in (Blackhole, Cut, Slow) for edge, roles in edges.items()),
        *(
            partial(Blackhole, edge=edge, roles=roles, lasts_s=_LONG_S, suffix="-long", recover_s=35.0)
            for edge, roles in edges.items()
        ),
        *(partial(Refuse, edge=edge) for edge in SERVERS),
        *(partial(Slices, edge=edge, roles=roles) for edge, roles in CLIENT_LINKS.items()),
        *(partial(kind, edge=edge, roles=("valkey",)) for kind in (Blackhole, Cut, Refuse) for edge in REDIS_LINKS),
        *(partial(kind, edge="postgres-replica") for kind in (Blackhole, Cut)),
        partial(CutAt, edge="postgres"),
        *(partial(Split, server=server, of_all=server == "valkey") for server in WITHIN),
        *(partial(KillInEffect, role=stage) for stage in STAGES),
        KillInAppend,
        KillUnflushed,
        WipeBroker,
        *(partial(LoseFolder, role=role) for role in ("kafka", "valkey")),
        KillLeader,
        FlushRedis,
        CutSubscribers,
        partial(CutSubscribers, at_end=True),
        *(partial(FullDisk, role=role) for role in PLACES),
        partial(StepClock, role="gateway", step_s=600),
        partial(StepClock, role="ingest", step_s=-600),
        *(partial(Poison, topic=topic) for topic in _topics_read()),
        *(partial(Hostile, attack=attack) for attack in ATTACKS),
    ]
    return {make().name: make for make in made}


FAULTS: Mapping[str, Callable[[], Fault]] = _registry()


def fault(name: str) -> Fault:
    """Return a new fault of this name. Raises KeyError."""
    return FAULTS[name]()
