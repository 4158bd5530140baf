"""What the rows of the fault matrix share. Each test is named by the number of its row."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stack.running import RunningStack
from tests.fault.processes import Extra
from tests.fault.site import Site
from verify.faults import Target, target_of

Beside = Callable[..., Awaitable[Extra]]


@pytest.fixture
def beside(stack: RunningStack, tmp_path: Path) -> Iterator[Beside]:
    """Start one more process of ours, ready when this returns, unless ``wait`` is false; none is left at the end."""
    made: list[Extra] = []

    async def start(name: str, *, node: str = "", wait: bool = True, **more: Any) -> Extra:
        extra = Extra(stack, tmp_path, name, node=node or f"{name}-beside", **more)
        made.append(extra)
        extra.start()
        if wait:
            await extra.ready()
        return extra

    yield start
    for extra in made:
        extra.end()


@pytest.fixture
def target(stack: RunningStack) -> Target:
    """The session's stack, as faults see it."""
    return target_of(stack, random.Random(1))


@pytest.fixture(scope="module")
def nodes(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Extra]]:
    """What stands behind a front: three gateways and two ingests, for one test file."""
    names = ("gateway-1", "gateway-2", "gateway-3", "ingest-1", "ingest-2")
    folder = tmp_path_factory.mktemp("nodes")
    made = [Extra(stack, folder, name.partition("-")[0], node=f"fronted-{name}") for name in names]
    for node in made:
        node.start()
    yield made
    for node in made:
        node.end()


@pytest.fixture
async def site(nodes: list[Extra], tmp_path: Path) -> AsyncIterator[Site]:
    """Those, all of them ready, and fronts before them."""
    for node in nodes:
        if not node.alive:
            node.start()
    await asyncio.gather(*(node.ready() for node in nodes))
    made = Site(tmp_path, nodes)
    yield made
    for front in made.fronts:
        front.end()
