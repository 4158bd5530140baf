"""Limits of an HTTP server, and the connections that it counts under them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from domain.addresses import Proxies, key, parsed
from runtime.counts import Counts
from runtime.http.refusals import Refusal

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]

_SPARE = 100
_RETRY_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """Limits of a server; docs/settings.md explains each. 0 turns a limit of connections off."""

    max_connections: int = 4000
    connections_per_address: int = 500
    request_timeout_s: float = 10.0
    keep_alive_s: float = 75.0
    slow_client_timeout_s: float = 20.0


class Evictable(Protocol):
    """A connection that may be closed to make room."""

    def evict(self) -> None:
        """Close at once; no call of the client is under way."""


@dataclass(slots=True, eq=False)
class Slot:
    """A connection's place among all of a server. ``key`` is the address it counts under, None for a proxy."""

    connections: Connections
    key: str | None
    refusal: Refusal | None = None

    def leave(self) -> None:
        """Free the place."""
        self.connections.open -= 1
        if self.key is not None:
            self.connections.addresses.remove(self.key)


@dataclass(slots=True)
class Connections:
    """All connections of a server.

    A full server closes the connection that has been without a call for longest, those first that never made one. So
    idle connections keep nobody out, however many there are.
    """

    limits: HttpLimits = field(default_factory=HttpLimits)
    proxies: Proxies = field(default_factory=Proxies)
    fields: Callable[[Headers], Mapping[str, str]] = lambda _: {}
    """Fields of an answer of the server itself to a request with these headers."""
    open: int = 0
    addresses: Counts = field(init=False)
    _silent: dict[Evictable, None] = field(default_factory=dict)
    _idle: dict[Evictable, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.addresses = Counts(self.limits.connections_per_address)

    def accept(self, connection: Evictable, peer: str | None) -> Slot | None:
        """Return a slot, perhaps with a refusal to be sent; None when there is no room even for that."""
        limit, address = self.limits.max_connections, parsed(peer) if peer is not None else None
        if limit and self.open >= limit + _SPARE:
            return None
        counted = None
        if address is not None and not self.proxies.trusts(address):
            counted = key(address)
            if not self.addresses.add(counted, _SPARE):
                return None
        self.open += 1
        slot = Slot(self, counted, self._refusal(counted))
        if slot.refusal is None:
            self._silent[connection] = None
        return slot

    def _refusal(self, counted: str | None) -> Refusal | None:
        if counted is not None and self.addresses.over(counted):
            detail = f"more than {self.addresses.limit} connections from this address"
            return Refusal(429, "rate_limited", detail, _RETRY_S)
        if 0 < self.limits.max_connections < self.open and not self._evict():
            return Refusal(503, "unavailable", "this node is at its limit of connections; try again", 1.0)
        return None

    def _evict(self) -> bool:
        connection = next(iter(self._silent), None) or next(iter(self._idle), None)
        if connection is None:
            return False
        self.forget(connection)
        connection.evict()
        return True

    def rest(self, connection: Evictable) -> None:
        """Note that a connection's last call has ended."""
        self._idle[connection] = None

    def forget(self, connection: Evictable) -> None:
        """Note that a connection has a call, or has ended."""
        self._silent.pop(connection, None)
        self._idle.pop(connection, None)
