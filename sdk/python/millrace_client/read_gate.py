"""A gate before the reading of a connection, which several holders may close."""

from __future__ import annotations

import asyncio


class ReadGate:
    """Open at first; closed while any holder pauses it."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self._holders: set[int] = set()

    @property
    def is_open(self) -> bool:
        """True while nobody pauses the gate."""
        return self._open.is_set()

    def pause(self, holder: object) -> None:
        """Close the gate until this holder resumes."""
        self._holders.add(id(holder))
        self._open.clear()

    def resume(self, holder: object) -> None:
        """Open the gate, unless another holder pauses it."""
        self._holders.discard(id(holder))
        if not self._holders:
            self._open.set()

    def open(self) -> None:
        """Open the gate, whoever pauses it."""
        self._open.set()

    async def wait(self) -> None:
        """Return once the gate is open."""
        await self._open.wait()
