"""Fan-out under backlog: POST to all sockets of a room, 16 messages on their way at any time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from statistics import median

import httpx2

from adapters.auth import issue
from adapters.postgres.pool import open_pool
from bench.machine import cpu_s
from bench.pairs import Measure, Result, in_turns
from bench.peers import installed, peer
from bench.process import BenchError, Load, load
from bench.stack import open_stack
from bench.world import World
from schemas.ids import new_id
from stack.ports import allot
from stack.processes import family
from stack.running import RunningStack

SIZE, WINDOW = 100, 16
_SERVERS = ("postgres", "valkey")
_ANY = "01900000-0000-7000-8000-000000000001"
_IDLE = 0.35
"""Share of a core that an idle stack uses, with a margin."""
_TABLE = """
CREATE SCHEMA IF NOT EXISTS bench_peers;
CREATE TABLE IF NOT EXISTS bench_peers.messages (
  id uuid PRIMARY KEY, conversation_id text, client_message_id text, content text, created_at timestamptz DEFAULT now())
"""


async def measure(_: World, pairs: int, seconds: float) -> list[Result]:
    """Measure deliveries for each second of CPU, beside two peers."""
    await installed()
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        ours = await enter(open_stack(MILLRACE_LIMITS__FACTORS="*=0", MILLRACE_AUDIT__INTERVAL_S="0"))
        await _make_table(ours)
        ports = list(allot(["uws", "socketio"], {}, {}).values())
        env = {"PGDSN": ours.pg_dsn, "REDIS_URL": ours.redis_url}
        uws = await enter(peer("uws", ports[0], env))
        socketio = await enter(peer("socketio", ports[1], env))
        edges = [node.pid for what in ("ingest", "gateway") for node in ours.nodes(what) if node.pid]
        everything = _all_but_stores(ours)
        us = await enter(_our_clients(ours))
        their = {
            "uws": await enter(load(WS_MARKER="new_message", WS_ROOM=_ANY, **_posts(ports[0]))),
            "socketio": await enter(
                load(
                    WS_PATH="/socket.io/?EIO=4&transport=websocket",
                    WS_SIO="1",
                    WS_GREETED="1",
                    WS_MARKER="new_message",
                    WS_ROOM=_ANY,
                    **_posts(ports[1]),
                )
            ),
        }
        for port, clients in zip(ports, their.values(), strict=True):
            await clients.do(f"open {SIZE} 16 {port} -1")
        await _per_core_second(us, ours, everything, 1.0)()  # warm
        costs: list[dict[str, float]] = []
        one = await in_turns(
            pairs,
            _per_core_second(us, ours, lambda: edges, seconds),
            _per_core_second(their["uws"], ours, lambda: [uws.pid], seconds),
        )
        all_of_it = await in_turns(
            pairs,
            _per_core_second(us, ours, everything, seconds, costs),
            _per_core_second(their["socketio"], ours, lambda: [socketio.pid], seconds),
        )
    common = (
        f"{SIZE} sockets, {WINDOW} messages on their way. Both answer a POST after its row is committed in the same "
    )
    common += "PostgreSQL, whose CPU is not counted"
    return [
        Result(
            name="backlog-edges",
            title=f"POST to {SIZE} sockets: ingest and gateway",
            unit="deliveries per core-second",
            reference="uWebSockets.js + pg, one node",
            included=(
                f"{common}. Ours: ingest with its relay, and the gateway with its dispatcher; the stages and Kafka, "
                "which the message also passes, are not counted here. Theirs: its one process."
            ),
            target=0.8,
            wanted="at least",
            pairs=one,
        ),
        Result(
            name="backlog-all",
            title=f"POST to {SIZE} sockets: everything, with the broker",
            unit="deliveries per core-second",
            reference="socket.io + Redis + pg",
            included=(
                f"{common}, nor is Redis's. Ours: ingest, five stages, gateway and Kafka, until the stages have worked "
                "off all of it (search, notifications, analytics). Theirs: its one process."
            ),
            target=1.0,
            wanted="at least",
            pairs=all_of_it,
            more={name: round(median(cost[name] for cost in costs), 1) for name in sorted(costs[0])},
        ),
    ]


async def _make_table(stack: RunningStack) -> None:
    async with open_pool(stack.pg_dsn, size=1, wait_s=30) as pool, pool.connection() as conn:
        for statement in _TABLE.split(";"):
            await conn.execute(statement.encode())


def _all_but_stores(stack: RunningStack) -> Callable[[], Sequence[int]]:
    return lambda: [p["pid"] for p in stack.processes if p["name"] not in _SERVERS and p["pid"]]


@asynccontextmanager
async def _our_clients(stack: RunningStack) -> AsyncIterator[Load]:
    users = [f"u{n}" for n in range(SIZE)]
    tokens = [issue(stack.jwt_secret, user, ttl_s=3600) for user in users]
    room = new_id()
    async with httpx2.AsyncClient(base_url=stack.http_url, trust_env=False) as client:
        answer = await client.post(
            "/conversations",
            headers={"Authorization": f"Bearer {tokens[0]}"},
            json={"conversationId": room, "members": users[1:]},
        )
        answer.raise_for_status()
    file = stack.data / "bench-tokens"
    file.touch(0o600)
    file.write_text("".join(f"{token}\n" for token in tokens))
    port = int(stack.http_url.rsplit(":", 1)[1])
    env = {
        "WS_PATH": "/ws",
        "WS_GREETED": "1",
        "WS_TOKENS": str(file),
        "WS_ROOM": room,
        "WS_MARKER": '"type":"new_message"',
        "HTTP_TOKEN": tokens[0],
    }
    async with load(**env, **_posts(port)) as clients:
        gateway = stack.nodes("gateway")[0]
        await clients.do(f"open {SIZE} 16 {gateway.port} 0")
        yield clients


def _posts(port: int) -> dict[str, str]:
    return {"PUBLISH": "http", "PUBLISH_PORT": str(port), "WS_SIZE": "230"}


def _per_core_second(
    clients: Load,
    stack: RunningStack,
    pids: Callable[[], Sequence[int]],
    seconds: float,
    costs: list[dict[str, float]] | None = None,
) -> Measure:
    """Return a measurement; it appends the CPU of each process for a message, and the delay, to ``costs``."""

    async def measure() -> float:
        await _until_idle(stack)
        before, each = cpu_s(pids()), _each(stack)
        sent = await clients.do(f"closed {seconds} {WINDOW}")
        await _until_idle(stack)
        if costs is not None:
            took = {f"us_{name}": (s - each[name]) / sent["messages"] * 1e6 for name, s in _each(stack).items()}
            costs.append({**took, "p50_ms": sent["p50_ms"], "messages_per_s": sent["messages"] / sent["seconds"]})
        return float(sent["deliveries"] / (cpu_s(pids()) - before))

    return measure


def _each(stack: RunningStack) -> dict[str, float]:
    """Return the CPU seconds so far of each process that is counted."""
    return {p["name"]: cpu_s([p["pid"]]) for p in stack.processes if p["name"] not in _SERVERS and p["pid"]}


async def _until_idle(stack: RunningStack, within_s: float = 60.0) -> None:
    """Wait until the stack has worked off its load. Raises BenchError."""
    clock = asyncio.get_running_loop().time
    end = clock() + within_s
    while clock() < end:
        pids, at = family(stack.supervisor), clock()
        before = cpu_s(pids)
        await asyncio.sleep(0.25)
        if (cpu_s(pids) - before) / (clock() - at) < _IDLE:
            return
    raise BenchError("the stack did not come to rest")
