"""Fan-out: one message for many sockets, the next when the last of them has it."""

from __future__ import annotations

from contextlib import AsyncExitStack

from bench.machine import cores, cpu_s
from bench.pairs import Measure, Result, in_turns
from bench.process import Load, Process, built, load, running
from bench.world import World

SIZES = (1000, 5000)
_CONTENT = 181
"""Characters of a message whose frame has 300 bytes of payload, like the frames of the reference."""


async def measure(world: World, pairs: int, seconds: float) -> list[Result]:
    """Measure deliveries for each second of CPU of the server."""
    return [await _at(world, size, pairs, seconds) for size in SIZES]


async def _at(world: World, size: int, pairs: int, seconds: float) -> Result:
    room = await world.room(size)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        port, c_port = world.port(), world.port()
        gateway = await enter(world.gateway(port))
        reference = await enter(running("csrv", [await built("csrv"), str(c_port)], core=cores()[0]))
        ours = await enter(load(**world.clients(room, size), WS_SIZE=str(_CONTENT)))
        theirs = await enter(load())
        await ours.do(f"open {size} 64 {port} 0")
        await theirs.do(f"open {size} 64 {c_port} -1")
        delays: list[float] = []
        taken = await in_turns(
            pairs, _per_core_second(ours, gateway, seconds, delays), _per_core_second(theirs, reference, seconds)
        )
    return Result(
        name=f"fanout-{size}",
        title=f"One message to {size:,} sockets",
        unit="deliveries per core-second",
        reference="a loop of send() in C",
        included=(
            "The gateway's process: reading Redis, putting the room in order, encoding, writing. The message enters by "
            "PUBLISH on the room's channel, as the dispatcher publishes it; all sockets are authenticated and joined. "
            "Not included: the server of Redis (one message for all deliveries), PostgreSQL (idle), the load client."
        ),
        target=0.75,
        wanted="at least",
        pairs=taken,
        more={"p50_ms_until_all_have_it": sorted(delays)[len(delays) // 2]},
    )


def _per_core_second(clients: Load, server: Process, seconds: float, delays: list[float] | None = None) -> Measure:
    async def measure() -> float:
        before = cpu_s([server.pid])
        sent = await clients.do(f"closed {seconds} 1")
        if delays is not None:
            delays.append(sent["last_p50_ms"])
        return float(sent["deliveries"] / (cpu_s([server.pid]) - before))

    return measure
