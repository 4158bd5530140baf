"""Admission of connections: each is counted from the moment its TCP connection is accepted until it has ended.

    accepted ──► request ──► token ──► socket
    node, address   node, address, rate   user, rate

Somewhat more than the limit is accepted, so that an HTTP answer can say why; beyond that connections are cut unread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from domain.addresses import Proxies, key, parsed
from domain.errors import RateLimited, Unavailable
from gateway.limits import Limits, Rates
from runtime.counts import Counts

_SPARE = 100
_BURST_S = 10.0
_RETRY_S = 10.0


def _rates(rate: float) -> Rates:
    return Rates(rate, max(1.0, rate * _BURST_S))


@dataclass(slots=True)
class Admission:
    """Counts all connections of the node, those in their handshake too."""

    limits: Limits = field(default_factory=Limits)
    proxies: Proxies = field(default_factory=Proxies)
    open: int = 0
    addresses: Counts = field(init=False)
    users: Counts = field(init=False)
    from_address: Rates = field(init=False)
    from_user: Rates = field(init=False)

    def __post_init__(self) -> None:
        given = self.limits
        self.addresses, self.users = Counts(given.connections_per_address), Counts(given.connections_per_user)
        self.from_address, self.from_user = map(_rates, (given.connects_per_s_address, given.connects_per_s_user))

    @property
    def full(self) -> bool:
        """True when the node has more connections than its limit."""
        return 0 < self.limits.max_connections < self.open

    def accept(self, peer: str | None) -> ConnectionSlot | None:
        """Return the slot of a TCP connection from this address; None when it must be aborted at once."""
        limit, address = self.limits.max_connections, parsed(peer) if peer is not None else None
        if limit and self.open >= limit + _SPARE:
            return None
        slot = ConnectionSlot(self)
        if address is not None and not self.proxies.trusts(address):
            if not self.addresses.add(key(address), _SPARE):
                return None
            slot.address, slot.direct = key(address), True
        self.open += 1
        return slot


@dataclass(slots=True)
class ConnectionSlot:
    """Slot of a connection, with the keys it is counted under.

    ``address`` is None while only the proxy's is known.
    """

    admission: Admission
    address: str | None = None
    user: str | None = None
    direct: bool = False

    def request(self, forwarded: Sequence[str], now: float) -> None:
        """Admit the HTTP request. Raises Unavailable when the node is full, RateLimited for its address."""
        admission = self.admission
        if admission.full:
            raise Unavailable("this node is at its limit of connections; connect again later")
        if not self.direct and (client := admission.proxies.client(forwarded)) is not None:
            if not admission.addresses.add(key(client)):
                raise self._crowd()
            self.address = key(client)
        if self.address is None:
            return
        if admission.addresses.over(self.address):
            raise self._crowd()
        if not admission.from_address.take(self.address, now):
            rate = admission.from_address.rate
            raise RateLimited(f"more than {rate:g} connections a second from this address", _RETRY_S)

    def _crowd(self) -> RateLimited:
        return RateLimited(f"more than {self.admission.addresses.limit} connections from this address", _RETRY_S)

    def enter(self, user_id: str, now: float) -> None:
        """Admit the user of a valid token. Raises RateLimited."""
        if not self.admission.from_user.take(user_id, now):
            rate = self.admission.from_user.rate
            raise RateLimited(f"more than {rate:g} connections a second of this user", _RETRY_S)
        if not self.admission.users.add(user_id):
            limit = self.admission.users.limit
            raise RateLimited(f"more than {limit} connections of this user on this node; close one first", _RETRY_S)
        self.user = user_id

    def leave(self) -> None:
        """Free the slot."""
        self.admission.open -= 1
        if self.address is not None:
            self.admission.addresses.remove(self.address)
        if self.user is not None:
            self.admission.users.remove(self.user)
