"""The servers behind a URL: one, or a cluster, whose nodes share out the keys and channels by slot.

The client library has a cluster client too, whose pipelines fail whole when one node is down. Here what concerns
the other nodes is done all the same.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import MovedError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from adapters.redis.client import OUTAGES, Address, Target, ask, connect, target, unavailable_on_outage
from adapters.redis.pipeline import Talk, open_talk
from domain.errors import Unavailable

_REST_S = 2.0
_FRESH_S = 0.5
_ATTEMPTS = 2
_NEVER = float("-inf")

Command: TypeAlias = tuple[str, str, *tuple[Any, ...]]
"""(name, key, arguments …)."""


def tagged(name: str) -> str:
    """The name with its id in braces, so that all that concerns one user or conversation lies on one node."""
    kind, _, rest = name.partition(":")
    id_, _, topic = rest.rpartition(":")
    return f"{kind}:{{{id_}}}:{topic}" if id_ else name


@dataclass(slots=True)
class Servers:
    """Clients of all servers, and which of them has which slot."""

    target: Target
    _clients: dict[Address, Redis] = field(default_factory=dict)
    _talks: dict[Address, Talk] = field(default_factory=dict)
    _opening: dict[Address, asyncio.Task[Talk]] = field(default_factory=dict)
    _owners: dict[int, Address] = field(default_factory=dict)
    _read_at: float = _NEVER
    _asked: Address | None = None
    _rest_until: dict[Address, float] = field(default_factory=dict)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def is_cluster(self) -> bool:
        """Whether there are slots."""
        return self.target.is_cluster

    def name(self, name: str) -> str:
        """A key or channel, as it is called there."""
        return tagged(name) if self.is_cluster else name

    def owner(self, name: str) -> Address | None:
        """The server of a key or channel (as called there); None while that is not known."""
        if not self.is_cluster:
            return self.target.nodes[0]
        return self._owners.get(key_slot(name.encode()))

    @property
    def owners(self) -> frozenset[Address]:
        """All servers that have slots, as far as known."""
        return frozenset(self._owners.values()) if self.is_cluster else frozenset(self.target.nodes)

    def client(self, address: Address) -> Redis:
        """The client of one server."""
        if address not in self._clients:
            self._clients[address] = connect(self.target, address)
        return self._clients[address]

    def moved(self, error: MovedError) -> None:
        """A server has said who owns a slot."""
        self._owners[error.slot_id] = Address(error.host, error.port)

    async def refresh(self) -> None:
        """Read the slots anew, unless that was done just now. Raises Unavailable when no node answers."""
        if not self.is_cluster:
            return
        async with self._lock:
            if self._owners and time.monotonic() - self._read_at < _FRESH_S:
                return
            known = sorted(self.owners, key=lambda address: address != self._asked)  # the last that answered first
            for address in dict.fromkeys((*known, *self.target.nodes)):
                if self._rests(address):
                    continue
                try:
                    ranges = await ask(self.client(address), "CLUSTER", "SLOTS")
                except OUTAGES as exc:
                    self._note(address, exc)
                    continue
                self._owners = dict(_read(ranges, address))
                self._read_at, self._asked = time.monotonic(), address
                return
        raise Unavailable("no node of the Redis Cluster answers")

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """Answers in the order of the commands; one pipeline for each server.

        Raises Unavailable when a server does not answer; what concerns the others has been done then.
        """
        answers: list[Any] = [None] * len(commands)
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
                for n, answer in zip(numbers, result, strict=True):
                    answers[n] = answer
            if failed is not None:
                self._read_at = _NEVER  # another may have taken over its slots
                raise Unavailable("Redis does not answer") from failed
            todo = self._strayed(answers, todo)
        _raise_first(answers)
        return answers

    async def atomic(self, commands: Sequence[Command]) -> list[Any]:
        """The same as one transaction; all commands are about keys of one slot. Raises Unavailable."""
        await self._know()
        with unavailable_on_outage():
            address = self.owner(commands[0][1])
            if address is None:
                raise Unavailable("nobody owns the slot")
            try:
                answers = await self._ask(address, [("MULTI",), *commands, ("EXEC",)])
                for answer in (*answers[:-1], *(answers[-1] if isinstance(answers[-1], list) else answers[-1:])):
                    if isinstance(answer, Exception):
                        raise answer
                return list(answers[-1])
            except (MovedError, *OUTAGES):
                self._read_at = _NEVER
                raise

    async def _know(self) -> None:
        if self._read_at == _NEVER and self.is_cluster:
            await self.refresh()

    async def _grouped(self, commands: Sequence[Command], todo: Iterable[int]) -> dict[Address | None, list[int]]:
        await self._know()
        groups: defaultdict[Address | None, list[int]] = defaultdict(list)
        for n in todo:
            groups[self.owner(commands[n][1])].append(n)
        return groups

    async def _pipeline(self, address: Address | None, commands: Sequence[Command]) -> list[Any] | BaseException:
        """The answers, or what kept the server from answering."""
        if address is None:
            return LookupError("nobody owns the slot")
        try:
            return await self._ask(address, commands)
        except OUTAGES as exc:
            return exc

    async def _ask(self, address: Address, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Raises one of OUTAGES."""
        if self._rests(address):
            raise TimeoutError("it was slow a moment ago")
        try:
            talk = await self._talk(address)
            return await talk.ask(commands)
        except OUTAGES as exc:
            self._note(address, exc)
            raise

    async def _talk(self, address: Address) -> Talk:
        """The connection for questions, made if need be: once for all who wait, and in vain for all of them."""
        talk = self._talks.get(address)
        if talk is not None and not talk.line.is_lost:
            return talk
        if address not in self._opening:
            self._opening[address] = asyncio.create_task(self._open(address))
            self._opening[address].add_done_callback(_heard)
        return await asyncio.shield(self._opening[address])

    async def _open(self, address: Address) -> Talk:
        try:
            talk = self._talks[address] = await open_talk(self.client(address))
            return talk
        finally:
            del self._opening[address]

    def _note(self, address: Address, exc: BaseException) -> None:
        """A server that keeps us waiting is left alone for a while, so that it holds nobody up."""
        if isinstance(exc, RedisTimeoutError | TimeoutError):
            self._rest_until[address] = time.monotonic() + _REST_S

    def _rests(self, address: Address) -> bool:
        return time.monotonic() < self._rest_until.get(address, 0.0)

    def _strayed(self, answers: Sequence[Any], todo: Iterable[int]) -> list[int]:
        strayed = [n for n in todo if isinstance(answers[n], MovedError)]
        for n in strayed:
            self.moved(answers[n])
        return strayed

    async def close(self) -> None:
        """Close all connections."""
        for opening in self._opening.values():
            opening.cancel()
        for talk in self._talks.values():
            talk.line.close()
        for client in self._clients.values():
            await client.aclose()


def _heard(opening: asyncio.Task[Talk]) -> None:
    """Its failure is known, also when all who waited for it have gone."""
    if not opening.cancelled():
        opening.exception()


def _read(ranges: Iterable[Any], asked: Address) -> Iterable[tuple[int, Address]]:
    for first, last, (host, port, *_), *_ in ranges:
        owner = Address(host.decode() if host else asked.host, port)
        for slot in range(first, last + 1):
            yield slot, owner


def _raise_first(answers: Iterable[Any]) -> None:
    for answer in answers:
        if isinstance(answer, ResponseError):
            raise Unavailable("Redis refused") from answer


@asynccontextmanager
async def open_servers(url: str) -> AsyncIterator[Servers]:
    """Clients of what the URL names; a server may come later."""
    servers = Servers(target(url))
    try:
        yield servers
    finally:
        await servers.close()
