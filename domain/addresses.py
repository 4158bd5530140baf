"""Addresses of clients, also behind proxies. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address

_V6_PREFIX = 64
"""A client that has one IPv6 address has all of its /64."""


@dataclass(frozen=True, slots=True)
class Proxies:
    """Proxies whose ``X-Forwarded-For`` is believed."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    @classmethod
    def of(cls, listed: str) -> Proxies:
        """From a list like ``10.0.0.0/8, ::1``. Raises ValueError."""
        return cls(tuple(ip_network(text) for text in map(str.strip, listed.split(",")) if text))

    def trusts(self, address: Address) -> bool:
        """Return whether the address is that of a trusted proxy."""
        return any(address in network for network in self.networks)

    def client(self, forwarded: Sequence[str]) -> Address | None:
        """Return the last address in ``X-Forwarded-For`` that is none of theirs; None when there is none.

        Anybody may have written what stands before it.
        """
        named = [part.strip() for value in forwarded for part in value.split(",")]
        for text in reversed(named):
            address = parsed(text)
            if address is None or not self.trusts(address):
                return address
        return None


def parsed(text: str) -> Address | None:
    """Return the address in a text, with or without a port; IPv4 in IPv6 becomes IPv4. None for any other text."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def key(address: Address) -> str:
    """Return the key that an address is counted under."""
    if isinstance(address, IPv4Address):
        return str(address)
    return str(IPv6Network((address, _V6_PREFIX), strict=False))
