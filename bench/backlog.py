"""Fan-out under backlog: POST to all sockets of a room, with a number of messages on their way at any time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from statistics import median

from bench.clients import Shape, members, site_of
from bench.costs import Cost, cost, idle_cores, in_the_middle
from bench.pairs import Pair, Point, Result, in_rotation
from bench.peers import installed
from bench.process import Load
from bench.rivals import rivals
from bench.stack import UNLIMITED, cpu_by_process, open_stack, until_idle
from bench.world import World

MAIN = Shape(100)
WINDOWS: Mapping[Shape, Sequence[int]] = {
    MAIN: (1, 16, 64, 256),
    Shape(1): (16, 64),
    Shape(10): (16, 64),
    Shape(1000): (16, 64),
    Shape(1, rooms=100): (16, 64),
    Shape(10, rooms=100): (64,),
}
"""Messages on their way, by the rooms that they go to."""
_FEW = 2
"""Rounds where no target is set."""
_REST_S = 10.0
_EDGES = ("ingest", "gateway")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Processes of ours beside a peer; None stands for all but the stores. ``targets``: by messages on their way."""

    name: str
    processes: Sequence[str] | None
    peer: str
    reference: str
    targets: Mapping[int, float]

    def ours(self, cost: Cost, *, stores: bool = False) -> float:
        """Return deliveries for a CPU second of ours."""
        return cost.per_core_second(self.processes, stores=stores)


COMPARISONS = (
    Comparison("all", None, "socketio", "socket.io + Redis + pg", {16: 1.0, 64: 1.5}),
    Comparison("fair", _EDGES, "fair", "uWebSockets.js + pg that checks and keeps what ours does", {64: 1.0}),
    Comparison("edges", _EDGES, "uws", "uWebSockets.js + pg, one node", {64: 0.35}),
)


@dataclass(slots=True)
class Measured:
    """Rounds at one point: for each the costs by side, and the load average."""

    shape: Shape
    window: int
    rounds: list[tuple[Mapping[str, Cost], float]] = field(default_factory=list)

    def pairs(self, comparison: Comparison, *, stores: bool = False) -> list[Pair]:
        """Return ours beside the peer; none where the peer has no such rooms."""
        return [
            Pair(
                comparison.ours(costs["ours"], stores=stores),
                costs[comparison.peer].per_core_second(stores=stores),
                load,
            )
            for costs, load in self.rounds
            if comparison.peer in costs
        ]

    def __str__(self) -> str:
        return f"{self.window} on their way, {self.shape}"


async def measure(world: World, pairs: int, seconds: float) -> list[Result]:
    """Measure deliveries for each second of CPU, beside three peers."""
    await installed()
    async with open_stack(**UNLIMITED) as stack, rivals(world) as peers:
        site, read = site_of(stack), partial(cpu_by_process, stack)
        measured: list[Measured] = []
        idle: dict[str, float] = {}
        for shape, windows in WINDOWS.items():
            async with AsyncExitStack() as opened:
                ours = await opened.enter_async_context(members(site, shape))
                if not idle:
                    await ours.do(f"closed {world.warm_s} 64")
                    await until_idle(stack)
                    idle = await idle_cores(read, _REST_S)
                sides = {"ours": _side(ours, read, partial(until_idle, stack))}
                for name, rival in peers.items():
                    if shape.rooms == 1 or rival.site is not None:
                        clients = await opened.enter_async_context(rival.clients(shape))
                        await clients.do("closed 1 16")  # its just-in-time compiler, too, has begun
                        sides[name] = _side(clients, rival.read, _no_rest)
                measured += [await _at(shape, window, sides, pairs, seconds) for window in windows]
    return [
        _result(comparison, window, target, measured, idle)
        for comparison in COMPARISONS
        for window, target in comparison.targets.items()
    ]


async def _no_rest() -> None:
    """Return at once: a peer has no work left when everybody has the message."""


def _side(
    clients: Load, read: Callable[[], Mapping[str, float]], rest: Callable[[], Awaitable[None]]
) -> Callable[[str], Awaitable[Cost]]:
    return lambda command: cost(clients, command, read, rest)


async def _at(
    shape: Shape, window: int, sides: Mapping[str, Callable[[str], Awaitable[Cost]]], pairs: int, seconds: float
) -> Measured:
    has_target = shape == MAIN and any(window in comparison.targets for comparison in COMPARISONS)
    command = f"closed {seconds} {window}"
    measures = [partial(side, command) for side in sides.values()]
    rounds = await in_rotation(pairs if has_target else min(pairs, _FEW), measures)
    return Measured(shape, window, [(dict(zip(sides, costs, strict=True)), load) for costs, load in rounds])


def _result(
    comparison: Comparison, window: int, target: float, measured: Iterable[Measured], idle: Mapping[str, float]
) -> Result:
    every = list(measured)
    main = next(each for each in every if (each.shape, each.window) == (MAIN, window))
    with_stores = median(pair.ratio for pair in main.pairs(comparison, stores=True))
    who = "ingest and gateway" if comparison.processes else "everything, with the broker"
    reached = with_stores >= target
    return Result(
        name=f"backlog-{comparison.name}-{window}",
        title=f"POST to {MAIN}, {window} on their way: {who}",
        unit="deliveries per core-second",
        reference=comparison.reference,
        included=_included(comparison),
        target=target,
        wanted="at least",
        pairs=main.pairs(comparison),
        points=[point for each in every for point in _points(each, comparison)],
        more={
            "with_stores": round(with_stores, 3),
            "with_stores_reached": reached,
            "idle_cores": round(sum(idle.values()), 4),
            **in_the_middle((costs["ours"] for costs, _ in main.rounds), idle),
            "peer_us": round(median(costs[comparison.peer].us([comparison.peer]) for costs, _ in main.rounds), 1),
            "peer_us_with_stores": round(median(costs[comparison.peer].us() for costs, _ in main.rounds), 1),
        },
    )


def _points(measured: Measured, comparison: Comparison) -> list[Point]:
    found = []
    for stores in (False, True):
        if pairs := measured.pairs(comparison, stores=stores):
            ours, reference = median(pair.ours for pair in pairs), median(pair.reference for pair in pairs)
            found.append(Point(f"{measured}{', with stores' * stores}", ours, reference))
    return found


def _included(comparison: Comparison) -> str:
    ours = (
        "ingest with its relay, and the gateway with its dispatcher; the stages and Kafka, which the message also "
        "passes, are not counted here"
        if comparison.processes
        else "ingest, five stages, gateway and Kafka, until the stages have worked off all (search, notifications "
        "and so on)"
    )
    return (
        "Both answer a POST after its row is committed. The ratio counts no PostgreSQL and no Redis on either side; "
        f"with_stores counts both on both sides. Ours: {ours}; what it uses at rest is part of it. Theirs: its one "
        "process. Their PostgreSQL and Redis are of the same versions and settings as ours, and serve nobody else."
    )
