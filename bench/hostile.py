"""Hostile user against honest ones: the delay that each attack causes for everybody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from statistics import median

import orjson

from adapters.auth import issue
from adapters.postgres.conversations import PostgresConversations
from adapters.postgres.intake import PostgresIntake
from adapters.postgres.pool import open_pool
from bench.honest import DESCRIBED, Honest
from bench.machine import rss_kib
from bench.pairs import Result, in_turns
from bench.process import BenchError, python
from bench.stack import open_stack
from bench.world import World
from ingest.http.params import parse
from ingest.http.validation import draft
from schemas.calls import NewMessage
from schemas.ids import new_id
from stack.processes import family
from stack.running import RunningStack
from verify.attacks import Doors

_TTL_S = 3600
_LEAST_S = 8.0
_MOST = 2.0
"""Largest share of the quiet delay that an attack may cause."""
_HISTORY = 3_000
_BATCH = 500
_WARM_S = 2.0
_MIB = 1024.0
_AIMS = {"searches": "search", "pictures": "picture"}
"""Kinds of honest calls that an attack aims at, other than messages."""


async def measure(_: World, pairs: int, seconds: float, name: str) -> list[Result]:
    """Measure the 95th percentile of the delay of honest calls under an attack and without it."""
    async with open_stack(MILLRACE_AUDIT__INTERVAL_S="0") as stack:
        doors = await _doors(stack)
        honest = Honest(Doors(stack.http_url, stack.ws_url, doors.token))
        async with honest.talking():
            await honest.p95_ms(_LEAST_S)  # the servers and the JVM warm up
            return [await _result(name, stack, doors, honest, pairs, max(seconds, _LEAST_S))]


async def _result(name: str, stack: RunningStack, doors: Doors, honest: Honest, pairs: int, seconds: float) -> Result:
    aim = _AIMS.get(name, "message")
    before, disk, grown = _memory(stack), _disk(stack), [0.0]
    attacked: list[dict[str, float]] = []
    honest.failures.clear()

    async def under_attack() -> float:
        async with _attacked(name, stack, doors):
            attacked.append(await honest.p95_ms(seconds))
            grown.append((_memory(stack) - before) / _MIB)
        await asyncio.sleep(_WARM_S)
        return attacked[-1][aim]

    async def quiet() -> float:
        return (await honest.p95_ms(seconds))[aim]

    taken = await in_turns(pairs, under_attack, quiet)
    return Result(
        name=f"hostile-{name}",
        title=f"p95 of an honest {aim} while one user attacks by {name}",
        unit="ms",
        reference="the same without the attack",
        included=(
            f"{DESCRIBED}. The delay of a message or a picture runs until the recipient's socket has it, through the "
            "whole pipeline. The attacker takes what the servers leave of the same cores. Limits are the defaults."
        ),
        target=_MOST,
        wanted="at most",
        pairs=taken,
        more={
            **{f"{kind}_ms": round(median(each[kind] for each in attacked)) for kind in attacked[0]},
            "failures": dict(honest.failures),
            "mib_grown_at_most": round(max(grown)),
            "disk_mib_grown": round((_disk(stack) - disk) / 2**20),
        },
    )


@asynccontextmanager
async def _attacked(name: str, stack: RunningStack, doors: Doors) -> AsyncIterator[None]:
    """Run the attack, after it has found its pace, while the block runs."""
    env = {
        "ATTACK_HTTP": doors.http,
        "ATTACK_WS": doors.ws,
        "ATTACK_SECRET": stack.jwt_secret,
        "ATTACK_USER": doors.user,
        "ATTACK_HISTORY": doors.history,
    }
    async with python("bench.attacker", name, env=env) as attacker:
        await asyncio.sleep(_WARM_S)
        yield
        if attacker.process.returncode is not None:
            raise BenchError(f"the attack {name} ended by itself with code {attacker.process.returncode}")


async def _doors(stack: RunningStack) -> Doors:
    """Return the doors for the hostile user, who has a conversation with a long history."""
    room = new_id()
    doors = Doors(stack.http_url, stack.ws_url, partial(issue, stack.jwt_secret, ttl_s=_TTL_S), history=room)
    async with open_pool(stack.pg_dsn, size=1, wait_s=30) as pool:
        await PostgresConversations(pool).create(room, None, doors.user, [])
        body = orjson.dumps({"conversationId": room, "type": "text", "content": "thank you for the meeting " * 150})
        for _ in range(0, _HISTORY, _BATCH):
            drafts = [
                draft(parse(NewMessage, body), sender_id=doors.user, idempotency_key=new_id()) for _ in range(_BATCH)
            ]
            await PostgresIntake(pool).accept(drafts, wait=True)
    return doors


def _memory(stack: RunningStack) -> float:
    """Return the resident memory of all processes in KiB."""
    total = 0.0
    for pid in family(stack.supervisor):
        with suppress(OSError, LookupError):
            total += rss_kib(pid)
    return total


def _disk(stack: RunningStack) -> int:
    """Return the bytes that the data folder takes."""
    total = 0
    for path in stack.data.rglob("*"):
        with suppress(OSError):
            total += path.lstat().st_blocks * 512
    return total
