"""Edges: the points that a message reaches on its way, as users see them, and how long each may take. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from schemas.topics import load


class Edge(StrEnum):
    """A point that a message reaches. The time to it is counted from the first attempt to send the message."""

    ACCEPTED = "accepted"
    """The POST is answered 2xx."""
    DELIVERED = "delivered"
    """The message is on the screen of a member with a steady connection."""
    STATUS = "status"
    """The sender's screen says that a member's device has it: acknowledgement and ``message_status`` included."""
    SEARCHED = "searched"
    """A member finds it by ``GET /search``."""
    NOTIFIED = "notified"
    """A member who has never connected finds it in ``GET /notifications``."""
    MEDIA = "media"
    """A picture, uploaded and sent, is ``media_ready`` on a member's screen."""
    COUNTED = "counted"
    """``GET …/analytics`` counts it."""


@dataclass(slots=True)
class Measurement:
    """The time of one message to one edge, on a monotonic clock. ``ended`` is None while the edge is not reached."""

    began: float
    ended: float | None = None

    def seconds(self, until: float) -> float:
        """Return how long it took; of one that is under way, how long it has taken ``until`` then."""
        return (until if self.ended is None else self.ended) - self.began


@dataclass(frozen=True, slots=True)
class EdgeRule:
    """What holds on an edge. All in seconds.

    ``late_s``: a message that takes longer is late. ``calm_s``: lateness is over when no message that is sent within
    this time is late. ``median_s`` and ``p99_s`` bound the times without a fault, and ``recovery_s`` the lateness after
    the end of a fault of one process, all on an idle machine. ``roles``: processes whose faults can make messages late
    here.
    """

    late_s: float
    calm_s: float
    median_s: float
    p99_s: float
    recovery_s: float
    roles: frozenset[str]


_ALL = frozenset({"ingest", "postgres", "valkey"})
_LOG = _ALL | {"kafka"}

RULES: Mapping[Edge, EdgeRule] = MappingProxyType(
    {
        Edge.ACCEPTED: EdgeRule(1.0, 2.0, 0.1, 1.0, 15.0, _ALL),
        Edge.DELIVERED: EdgeRule(2.5, 2.0, 0.25, 1.2, 15.0, _LOG | {"status", "gateway"}),
        Edge.STATUS: EdgeRule(4.0, 2.0, 1.0, 2.0, 15.0, _LOG | {"status", "gateway"}),
        Edge.SEARCHED: EdgeRule(4.0, 3.0, 0.8, 2.0, 15.0, _LOG | {"search"}),
        # Without Redis, and for 5 s after it is back, nobody is certainly away: then a notification takes some 8 s.
        Edge.NOTIFIED: EdgeRule(4.0, 2.0, 0.8, 2.0, 25.0, _LOG | {"notification"}),
        Edge.MEDIA: EdgeRule(5.0, 6.0, 1.0, 3.0, 15.0, _LOG | {"media", "gateway"}),
        Edge.COUNTED: EdgeRule(4.0, 3.0, 1.0, 2.5, 15.0, _LOG | {"analytics"}),
    }
)

_KNOWN: frozenset[str] = frozenset().union(*(rule.roles for rule in RULES.values()))

_LINKS: Mapping[str, str] = MappingProxyType({"http": "ingest", "ws": "gateway"})
"""Links of clients, by the process at their end."""


def edges_of(targets: Collection[str]) -> frozenset[Edge]:
    """Return the edges that a fault of these targets can hurt: roles of processes; links of clients, which stand for
    the process at their end; or topics, which stand for those who read them. A target of which nothing is known can
    hurt every edge."""
    targets = {_LINKS.get(target, target) for target in targets}
    readers = {topic.name: frozenset(topic.readers) & _KNOWN for topic in load()}
    roles = frozenset[str]().union(*(readers.get(target, {target}) for target in targets))
    return frozenset(edge for edge, rule in RULES.items() if rule.roles & roles or roles - _KNOWN)


@dataclass(frozen=True, slots=True)
class Recovery:
    """The lateness of messages on one edge around a fault. Seconds, from the injection unless they say otherwise."""

    first_s: float
    """The first message that was late was sent then, or was on its way already (0)."""
    last_s: float
    """The last message that was late arrived then."""
    after_end_s: float
    """The same, from the end of the fault on; 0 when messages were in time again before."""
    overdue_s: float = 0.0
    """Lateness beyond the bound of this fault and of every other one that can hurt the edge."""
    overlaps: Sequence[str] = ()
    """Other faults that can hurt the edge and are not over in this time."""
    is_over: bool = True
    """False: a message that was late has never arrived."""
