"""Token buckets that all nodes have in common, in Redis.

* ``rate:{userId}:{action}``  the bucket: its credit, the time of it, and the tokens leased to each node
* ``rate:nodes``              the nodes that live, each with its lease

A node leases tokens, some more than are wanted now, and gives them without asking again; what it holds counts as
taken, so all nodes together give no more than the limit. Callers who wait for the same bucket share one round trip.
While Redis is slow or away, each node gives its own share of the limit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import structlog

from adapters.redis.registry import now_ms
from adapters.redis.slot_client import SlotClient, open_slot_client
from domain.errors import Unavailable
from domain.rates import Limit, Share, Standing
from runtime.tasks import Tasks
from schemas.fields import Action
from schemas.ids import new_id

_log = structlog.get_logger()

_NODES = "rate:nodes"
_LEASE_S = 10.0
"""Seconds for which a node may give leased tokens; afterwards they are lost to it."""
_BEAT_S, _ALIVE_MS = 3.0, 10_000
_PATIENCE_S = 0.1
"""Seconds that a call waits for Redis."""
_AWAY_S = 1.0
"""Seconds for which no call waits for Redis after it has been slow."""
_SHARES = 10_000
_LEAST = 1e-6

_SCRIPT = """
local rate, burst, first, need = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local field, held, nodes, lease = 'held:' .. ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local reported = tonumber(ARGV[9])
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local fields = redis.call('HGETALL', KEYS[1])
local credit, at, others = burst, now, 0
for i = 1, #fields, 2 do
  local name, value = fields[i], fields[i + 1]
  if name == 'credit' then credit = tonumber(value)
  elseif name == 'at' then at = tonumber(value)
  elseif name ~= field then
    local amount, ends = string.match(value, '(%S+) (%S+)')
    if tonumber(ends) > now then others = others + tonumber(amount)
    elseif need > 0 then redis.call('HDEL', KEYS[1], name) end
  end
end
-- What is held somewhere is not there to come back: else all nodes together could give more than the limit.
local room = burst - others - held
credit = math.min(room, credit + math.max(0, now - at) * rate - reported)
local grant = 0
if need > 0 then
  if credit >= need then grant = need + math.floor((credit - need) / (2 * nodes))
  elseif credit >= first then grant = math.max(first, math.floor(credit))
  elseif credit >= room - 0.000001 and room >= burst / 2 then grant = first  -- a full bucket may owe
  elseif first + held > burst and credit + held >= burst / 2 then grant = first end  -- a half full one for what is dear
  credit = credit - grant
  redis.call('HSET', KEYS[1], 'credit', string.format('%.6f', credit), 'at', string.format('%.6f', now),
             field, string.format('%.6f %.6f', held + grant, now + lease))
  redis.call('PEXPIRE', KEYS[1], math.ceil(1000 * (math.max((burst - credit) / rate, lease) + 1)))
end
return {tostring(grant), string.format('%.6f', credit), string.format('%.6f', others)}
"""


@dataclass(slots=True, eq=False)
class _Line:
    """Callers who wait for a lease: the cost of each, and whether it was met; None when Redis did not tell."""

    share: Share
    waiting: list[tuple[float, asyncio.Future[bool | None]]] = field(default_factory=list)
    is_asked: bool = False


@dataclass(slots=True)
class RedisRates:
    """Rates, as one node sees them."""

    client: SlotClient
    node: str
    nodes: int = 1
    """Nodes that are known to live, at least this one."""
    _lines: dict[tuple[Action, str], _Line] = field(default_factory=dict)
    _prune_at: int = _SHARES
    _away_until: float = 0.0
    _tasks: Tasks = field(default_factory=Tasks)

    async def take(self, action: Action, user_id: str, limit: Limit, cost: float = 1.0) -> Standing:
        if limit.is_off:
            return Standing(action, limit, 0.0)
        now = time.monotonic()
        line = self._line(action, user_id, limit, now)
        share = line.share
        is_taken: bool | None = share.take(cost, now)
        if not is_taken and now >= self._away_until:
            is_taken = False if share.is_empty(cost, now) else await self._leased(line, action, user_id, cost)
        elif not is_taken:
            is_taken = None
        if is_taken is not None:
            return self._standing(action, share, 0.0 if is_taken else share.wait_s(cost, time.monotonic()))
        now = time.monotonic()
        wait_s = 0.0 if share.take_alone(cost, now) else share.alone.wait_s(cost, now)
        return Standing(action, limit, max(0.0, share.alone.refill(now)), wait_s)

    async def look(self, action: Action, user_id: str, limit: Limit) -> Standing:
        if limit.is_off:
            return Standing(action, limit, 0.0)
        now = time.monotonic()
        share = self._line(action, user_id, limit, now).share
        if now >= self._away_until:
            with suppress(Unavailable, TimeoutError):
                async with asyncio.timeout(_PATIENCE_S):
                    _, credit, others = await self._ask(share, action, user_id, 0.0, 0.0, share.to_report(now))
                return Standing(action, limit, min(limit.burst, max(0.0, credit + others + share.unused(now))))
        return Standing(action, limit, max(0.0, share.alone.refill(now)))

    def _standing(self, action: Action, share: Share, wait_s: float) -> Standing:
        return Standing(action, share.limit, share.remaining(time.monotonic()), wait_s)

    def _line(self, action: Action, user_id: str, limit: Limit, now: float) -> _Line:
        if len(self._lines) >= self._prune_at:
            self._lines = {
                key: line for key, line in self._lines.items() if line.is_asked or not line.share.is_idle(now)
            }
            self._prune_at = max(_SHARES, 2 * len(self._lines))
        line = self._lines.get((action, user_id))
        if line is None:
            line = self._lines[action, user_id] = _Line(Share(limit, self.nodes))
        line.share.among(self.nodes, now)
        return line

    async def _leased(self, line: _Line, action: Action, user_id: str, cost: float) -> bool | None:
        """Wait for a lease; return whether it met the cost, None when Redis does not tell in time."""
        met: asyncio.Future[bool | None] = asyncio.get_running_loop().create_future()
        line.waiting.append((cost, met))
        if not line.is_asked:
            line.is_asked = True
            self._tasks.spawn(self._lease(line, action, user_id))
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await met
        except TimeoutError:
            self._note_away("slow")
            return None

    async def _lease(self, line: _Line, action: Action, user_id: str) -> None:
        """Lease tokens until nobody waits. An answer that is late pays for what was given alone meanwhile."""
        try:
            while line.waiting:
                waiting, line.waiting = line.waiting, []
                waiting = [(cost, met) for cost, met in waiting if not met.done()]
                if not waiting:
                    continue
                asked_at = time.monotonic()
                try:
                    # What the node still holds pays for a part of it; without any need nothing would be granted.
                    held, reported = line.share.unused(asked_at), line.share.to_report(asked_at)
                    first = max(0.0, waiting[0][0] - held)
                    need = max(_LEAST, sum(cost for cost, _ in waiting) - held)
                    granted, credit, _ = await self._ask(line.share, action, user_id, first, need, reported)
                except Unavailable as exc:
                    self._note_away(type(exc.__cause__ or exc).__name__)
                    _resolve(waiting, None)
                    continue
                now = time.monotonic()
                line.share.lease(granted, credit, asked_at + _LEASE_S, now, reported)
                if all(met.done() for _, met in waiting):
                    line.share.give_back(now)
                for cost, met in waiting:
                    if not met.done():
                        met.set_result(line.share.take(cost, now))
        finally:
            line.is_asked = False
            _resolve(line.waiting, None)
            line.waiting = []

    async def _ask(
        self, share: Share, action: Action, user_id: str, first: float, need: float, reported: float
    ) -> tuple[float, float, float]:
        """Return the tokens granted, those left, and those that other nodes hold. Raises Unavailable."""
        limit, held = share.limit, share.unused(time.monotonic())
        lease = (self.node, held, self.nodes, _LEASE_S)
        key = self.client.name(f"rate:{user_id}:{action}")
        [reply] = await self.client.run(
            [("EVAL", _SCRIPT, 1, key, limit.per_s, limit.burst, first, need, *lease, reported)]
        )
        granted, credit, others = map(float, reply)
        return granted, credit, others

    def _note_away(self, reason: str) -> None:
        now = time.monotonic()
        if now >= self._away_until:
            _log.debug("rates_counted_alone", node=self.node, nodes=self.nodes, wait_s=_AWAY_S, reason=reason)
        self._away_until = now + _AWAY_S

    async def beat(self) -> None:
        """Tell the other nodes that this one lives, and count those that do; until cancelled. Raises nothing."""
        while True:
            with suppress(Unavailable):
                await self.beat_once()
            await asyncio.sleep(_BEAT_S)

    async def beat_once(self) -> None:
        """Renew this node's lease and count the nodes that live. Raises Unavailable."""
        now = now_ms()
        *_, count = await self.client.run(
            [
                ("ZADD", _NODES, now + _ALIVE_MS, self.node),
                ("PEXPIRE", _NODES, _ALIVE_MS),
                ("ZREMRANGEBYSCORE", _NODES, "-inf", now),
                ("ZCARD", _NODES),
            ]
        )
        self.nodes = max(1, int(count))

    async def leave(self) -> None:
        """Tell the other nodes that this one ends. Raises nothing."""
        self._tasks.cancel()
        with suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                await self.client.run([("ZREM", _NODES, self.node)])


def _resolve(waiting: list[tuple[float, asyncio.Future[Any]]], result: bool | None) -> None:
    for _, met in waiting:
        if not met.done():
            met.set_result(result)


@asynccontextmanager
async def open_rates(url: str, node: str) -> AsyncIterator[RedisRates]:
    """Yield the rates of a node; Redis may come later."""
    async with open_slot_client(url) as client:
        rates = RedisRates(client, f"{node}/{new_id()}")
        beating = asyncio.create_task(rates.beat())
        try:
            yield rates
        finally:
            beating.cancel()
            await rates.leave()
