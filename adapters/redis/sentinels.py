"""Sentinels, which name the primary of a service."""

from __future__ import annotations

from dataclasses import dataclass, field

import structlog
from redis.asyncio import Redis

from adapters.redis.client import OUTAGES, connect_sentinel, execute, says
from adapters.redis.target import Address, Target
from domain.errors import Unavailable

_log = structlog.get_logger()


@dataclass(slots=True)
class Sentinels:
    """Sentinels that a URL names; the one that has answered last is asked first."""

    target: Target
    _clients: dict[Address, Redis] = field(default_factory=dict)
    _answered: Address | None = None

    async def primary(self) -> Address:
        """Return the address of the primary. Raises Unavailable when no Sentinel names one."""
        service, failure = self.target.service, ""
        for address in sorted(self.target.nodes, key=lambda address: address != self._answered):
            if address not in self._clients:
                self._clients[address] = connect_sentinel(self.target, address)
            try:
                found = await execute(self._clients[address], "SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)
            except OUTAGES as exc:
                failure = says(exc)
                continue
            if found:
                self._answered = address
                _log.debug("redis_primary_read", server=f"{found[0].decode()}:{int(found[1])}", sentinel=str(address))
                return Address(found[0].decode(), int(found[1]))
            failure = f"{address} knows no service {service}"
        raise Unavailable("no Sentinel names the primary of Redis", failure)

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.aclose()
