"""What the rows of the fault matrix share. Each test is named by the number of its row."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ops.running import RunningStack
from ops.verify.faults import World, world_of
from tests.fault.processes import Extra

Beside = Callable[..., Awaitable[Extra]]


@pytest.fixture
def beside(stack: RunningStack, tmp_path: Path) -> Iterator[Beside]:
    """Start one more process of ours, ready when this returns; none is left at the end."""
    made: list[Extra] = []

    async def start(name: str, *, node: str = "", **more: Any) -> Extra:
        extra = Extra(stack, tmp_path, name, node=node or f"{name}-beside", **more)
        made.append(extra)
        extra.start()
        await extra.ready()
        return extra

    yield start
    for extra in made:
        extra.end()


@pytest.fixture
def world(stack: RunningStack) -> World:
    """The session's stack, as faults see it."""
    return world_of(stack, random.Random(1))
