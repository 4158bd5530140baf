"""Client of one Redis server or of a cluster, whose nodes share out the keys and channels by slot.

The client library has a cluster client too; its pipelines fail whole when one node is down. Here the commands for the
other nodes are executed all the same.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import structlog
from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import MovedError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from adapters.redis.client import OUTAGES, connect, execute, says, unavailable, unavailable_on_outage
from adapters.redis.pipeline import PipelinedConnection, open_pipelined
from adapters.redis.sentinels import Sentinels
from adapters.redis.target import Address, Kind, Target, target
from domain.errors import Invalid, Unavailable

_log = structlog.get_logger()

_AVOID_S = 2.0
_FRESH_S = 0.5
_ATTEMPTS = 2
_NEVER = float("-inf")

Command: TypeAlias = tuple[str, str, *tuple[Any, ...]]
"""(name, key, arguments …), or ("EVAL", script, 1, key, arguments …)."""


def tagged(name: str) -> str:
    """Return the name with its id in braces, so that all keys of one user or conversation lie on one node."""
    kind, _, rest = name.partition(":")
    id_, _, topic = rest.rpartition(":")
    return f"{kind}:{{{id_}}}:{topic}" if id_ else name


@dataclass(slots=True)
class SlotClient:
    """Connections to all servers, and the owner of each slot."""

    target: Target
    _clients: dict[Address, Redis] = field(default_factory=dict)
    _connections: dict[Address, PipelinedConnection] = field(default_factory=dict)
    _opening: dict[Address, asyncio.Task[PipelinedConnection]] = field(default_factory=dict)
    _owners: dict[int, Address] = field(default_factory=dict)
    _primary: Address | None = None
    _sentinels: Sentinels | None = None
    _read_at: float = _NEVER
    _read_from: Address | None = None
    _avoid_until: dict[Address, float] = field(default_factory=dict)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        if self.is_alone:
            [self._primary] = self.target.nodes
        elif self.target.kind is Kind.SENTINEL:
            self._sentinels = Sentinels(self.target)

    @property
    def is_cluster(self) -> bool:
        """Return True when keys are shared out by slot."""
        return self.target.is_cluster

    @property
    def is_alone(self) -> bool:
        """Return True when all keys are on one server that is always the same."""
        return self.target.kind is Kind.ALONE

    def name(self, name: str) -> str:
        """Return a key or channel as it is called on the servers."""
        return tagged(name) if self.is_cluster else name

    def owner(self, name: str) -> Address | None:
        """Return the server of a key or channel (as called there); None while that is not known."""
        if not self.is_cluster:
            return self._primary
        return self._owners.get(key_slot(name.encode()))

    @property
    def owners(self) -> frozenset[Address]:
        """Return all servers that own keys, as far as known."""
        return frozenset(self._owners.values() if self.is_cluster else filter(None, [self._primary]))

    def client_of(self, address: Address) -> Redis:
        """Return the client of one server."""
        if address not in self._clients:
            self._clients[address] = connect(self.target, address)
        return self._clients[address]

    def moved(self, error: MovedError) -> None:
        """Note the owner of a slot, as a server named it; one that names none sends everybody to CLUSTER SLOTS."""
        if not error.host:
            self._read_at = _NEVER
            return
        self._owners[error.slot_id] = Address(error.host, error.port)

    async def refresh(self) -> None:
        """Read again which servers own the keys, unless just read. Raises Unavailable when nobody tells."""
        if self.is_alone:
            return
        async with self._lock:
            if time.monotonic() - self._read_at < _FRESH_S:
                return
            if self._sentinels is not None:
                self._primary, self._read_at = await self._sentinels.primary(), time.monotonic()
                return
            failure = ""
            known = sorted(self.owners, key=lambda address: address != self._read_from)  # the last to answer first
            for address in dict.fromkeys((*known, *self.target.nodes)):
                if self._is_avoided(address):
                    continue
                try:
                    ranges = await execute(self.client_of(address), "CLUSTER", "SLOTS")
                except OUTAGES as exc:
                    self._note_failure(address, exc)
                    failure = says(exc)
                    continue
                self._replace_owners(dict(_slots_of(ranges, address)), address)
                return
        raise Unavailable("no node of the Redis Cluster answers", failure)

    def _replace_owners(self, owners: dict[int, Address], source: Address) -> None:
        if owners != self._owners:
            _log.debug("redis_slots_refreshed", server=str(source), servers=len(set(owners.values())))
        self._owners = owners
        self._read_at, self._read_from = time.monotonic(), source

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """Return the replies in the order of the commands, sent as one pipeline for each server.

        Raises Unavailable when a server does not answer; the commands for the other servers have been executed then.
        """
        replies: list[Any] = [None] * len(commands)
        todo: Sequence[int] = range(len(commands))
        for _ in range(_ATTEMPTS):
            if not todo:
                break
            groups = await self._grouped(commands, todo)
            works = [self._pipeline(address, [commands[n] for n in numbers]) for address, numbers in groups.items()]
            failed: BaseException | None = None
            for numbers, result in zip(groups.values(), await asyncio.gather(*works), strict=True):
                if isinstance(result, BaseException):
                    failed = result
                    continue
                for n, reply in zip(numbers, result, strict=True):
                    replies[n] = reply
            if failed is not None:
                self._read_at = _NEVER  # another server may have taken over its slots
                raise unavailable(failed) from failed
            todo = self._moved(replies, todo)
        _raise_first(replies)
        return replies

    async def atomic(self, commands: Sequence[Command]) -> list[Any]:
        """Run the commands, whose keys share one slot, as one transaction. Raises Unavailable."""
        await self._ensure_owners()
        with unavailable_on_outage():
            address = self.owner(commands[0][1])
            if address is None:
                raise Unavailable("no Redis server owns the key")
            try:
                replies = await self._execute(address, [("MULTI",), *commands, ("EXEC",)])
                for reply in (*replies[:-1], *(replies[-1] if isinstance(replies[-1], list) else replies[-1:])):
                    if isinstance(reply, Exception):
                        raise reply
                return list(replies[-1])
            except (MovedError, *OUTAGES):
                self._read_at = _NEVER
                raise

    async def _ensure_owners(self) -> None:
        if self._read_at == _NEVER:
            await self.refresh()

    async def _grouped(self, commands: Sequence[Command], todo: Iterable[int]) -> dict[Address | None, list[int]]:
        await self._ensure_owners()
        groups: defaultdict[Address | None, list[int]] = defaultdict(list)
        for n in todo:
            groups[self.owner(_key_of(commands[n]))].append(n)
        return groups

    async def _pipeline(self, address: Address | None, commands: Sequence[Command]) -> list[Any] | BaseException:
        """Return the replies, or the error that kept the server from answering."""
        if address is None:
            return LookupError("nobody owns the slot")
        try:
            return await self._execute(address, commands)
        except OUTAGES as exc:
            return exc

    async def _execute(self, address: Address, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Return the replies of one server. Raises one of OUTAGES."""
        if self._is_avoided(address):
            raise TimeoutError("the server did not answer a moment ago")
        try:
            connection = await self._connection(address)
            return await connection.execute(commands)
        except OUTAGES as exc:
            self._note_failure(address, exc)
            raise

    async def _connection(self, address: Address) -> PipelinedConnection:
        """Return the connection to a server. One attempt to open it serves all callers that wait for it."""
        pipelined = self._connections.get(address)
        if pipelined is not None and not pipelined.connection.is_lost:
            return pipelined
        if address not in self._opening:
            self._opening[address] = asyncio.create_task(self._open(address))
            self._opening[address].add_done_callback(_retrieve_failure)
        return await asyncio.shield(self._opening[address])

    async def _open(self, address: Address) -> PipelinedConnection:
        try:
            pipelined = self._connections[address] = await open_pipelined(self.client_of(address))
            return pipelined
        finally:
            del self._opening[address]

    def _note_failure(self, address: Address, exc: BaseException) -> None:
        """Avoid a server that has timed out for a while, so that callers fail at once and do not wait for it."""
        if not isinstance(exc, RedisTimeoutError | TimeoutError):
            return
        if not self._is_avoided(address):
            _log.debug("redis_server_avoided", server=str(address), seconds=_AVOID_S)
        self._avoid_until[address] = time.monotonic() + _AVOID_S

    def _is_avoided(self, address: Address) -> bool:
        return time.monotonic() < self._avoid_until.get(address, 0.0)

    def _moved(self, replies: Sequence[Any], todo: Iterable[int]) -> list[int]:
        moved = [n for n in todo if isinstance(replies[n], MovedError)]
        for n in moved:
            self.moved(replies[n])
        if self._sentinels is None:
            return moved
        demoted = [n for n in todo if isinstance(replies[n], ResponseError) and str(replies[n])[:8] == "READONLY"]
        if demoted:  # another server is the primary now
            self._read_at = _NEVER
        return demoted

    async def close(self) -> None:
        """Close all connections."""
        for opening in self._opening.values():
            opening.cancel()
        for pipelined in self._connections.values():
            pipelined.connection.close()
        for client in self._clients.values():
            await client.aclose()
        if self._sentinels is not None:
            await self._sentinels.close()


def _key_of(command: Command) -> str:
    return str(command[3]) if command[0] == "EVAL" else command[1]


def _retrieve_failure(opening: asyncio.Task[PipelinedConnection]) -> None:
    """Mark the failure as retrieved, since all callers that waited for it may have been cancelled."""
    if not opening.cancelled():
        opening.exception()


def _slots_of(ranges: Iterable[Any], source: Address) -> Iterable[tuple[int, Address]]:
    for first, last, (host, port, *_), *_ in ranges:
        # A node that does not know its own address names no host: it is the one that was asked.
        owner = Address(host.decode() if host else source.host, port)
        for slot in range(first, last + 1):
            yield slot, owner


def _raise_first(replies: Iterable[Any]) -> None:
    for reply in replies:
        if isinstance(reply, ResponseError):
            raise unavailable(reply) from reply


@asynccontextmanager
async def open_slot_client(url: str) -> AsyncIterator[SlotClient]:
    """Yield a client of the servers that the URL names; a server may come later. Raises Invalid for another URL."""
    try:
        client = SlotClient(target(url))
    except ValueError as exc:
        raise Invalid(f"MILLRACE_REDIS__URL: {exc}") from exc
    try:
        yield client
    finally:
        await client.close()
