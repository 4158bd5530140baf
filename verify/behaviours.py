"""Behaviours of devices that are harder than a steady one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

from millrace_client import LiveConnection

from verify.workload import DeviceKind

TROUBLE_S = (2.0, 7.0)
_SLEEP_S = (0.5, 3.0)
_HERE_S = (3.0, 6.0)
_AWAY_S = (5.0, 30.0)


class Device(Protocol):
    """A device as its behaviour needs it."""

    @property
    def chance(self) -> random.Random:
        """Source of its random choices."""

    @property
    def live(self) -> LiveConnection:
        """Its connection of the moment."""

    async def acknowledge(self) -> None:
        """Report what is on the screen."""

    def restart(self) -> None:
        """Abandon the connection, and start another one from the screen's last seq."""

    async def go_away(self) -> None:
        """Close the connection; return once it is closed."""

    def come_back(self) -> None:
        """Connect again, from the screen's last seq."""


async def loses_connections(device: Device) -> None:
    """Cut the connection every few seconds."""
    while True:
        await asyncio.sleep(device.chance.uniform(*TROUBLE_S))
        device.live.abort()


async def sleeps(device: Device) -> None:
    """Stop reading for a while, again and again."""
    while True:
        await asyncio.sleep(device.chance.uniform(*TROUBLE_S))
        device.live.pause_reading()
        await asyncio.sleep(device.chance.uniform(*_SLEEP_S))
        device.live.resume_reading()


async def dies(device: Device) -> None:
    """Abandon the connection, and start another one from the screen's last seq, again and again."""
    while True:
        await asyncio.sleep(device.chance.uniform(*TROUBLE_S))
        device.restart()


async def comes_and_goes(device: Device) -> None:
    """Connect for some seconds, acknowledge, go away for longer, and so on."""
    while True:
        await asyncio.sleep(device.chance.uniform(*_HERE_S))
        await device.acknowledge()
        await device.go_away()
        await asyncio.sleep(device.chance.uniform(*_AWAY_S))
        device.come_back()


BEHAVIOURS: Mapping[DeviceKind, Callable[[Device], Coroutine[Any, Any, None]]] = {
    DeviceKind.FLAKY: loses_connections,
    DeviceKind.SLOW: sleeps,
    DeviceKind.DYING: dies,
    DeviceKind.PHONE: comes_and_goes,
}
