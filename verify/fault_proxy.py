"""A TCP proxy that misbehaves on demand, for an edge between two processes.

The fields of each ``Direction`` may be changed while connections live. Held bytes are delivered late and never dropped,
as TCP would by sending again. So is the end of a connection: a black hole makes half-open connections.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum

from stack.ports import allot

_CHUNK = 64 * 1024
_IN_FLIGHT = 64
_LOOK_S = 0.01
_RST_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER, zero seconds
_TASK_LEFT = (asyncio.CancelledError, OSError)


class TrapAction(Enum):
    """The effect of a trap."""

    RESET = "reset"
    """Reset both ends; the bytes do not pass."""
    HOLD = "hold"
    """Turn the direction into a black hole for all connections; the bytes pass when it is healed."""


@dataclass(slots=True)
class Trap:
    """Springs before ``pattern`` has passed, or after ``after`` bytes of a connection; once, unless it is ``again``."""

    action: TrapAction = TrapAction.RESET
    pattern: bytes | None = None
    after: int | None = None
    again: bool = False
    sprung: asyncio.Event = field(default_factory=asyncio.Event)

    def place(self, before: int, tail: bytes, data: bytes) -> int | None:
        """Return how many bytes of ``data`` still pass when the trap springs in it, else None. ``before`` bytes came
        earlier; the last of them are ``tail``."""
        if self.after is not None:
            return self.after - before if before + len(data) > self.after else None
        if not self.pattern:
            return None
        begun = tail[-(len(self.pattern) - 1) :] if len(self.pattern) > 1 else b""  # never one that passed long ago
        at = (begun + data).find(self.pattern)
        return None if at < 0 else max(0, at - len(begun))


@dataclass(slots=True)
class Direction:
    """Settings for the bytes of one direction. ``bandwidth`` is in bytes per second and connection."""

    black_hole: bool = False
    latency_s: float = 0.0
    jitter_s: float = 0.0
    bandwidth: float | None = None
    slices: bool = False
    trap: Trap | None = None

    def heal(self) -> None:
        """Let everything pass at once."""
        self.black_hole, self.latency_s, self.jitter_s = False, 0.0, 0.0
        self.bandwidth, self.slices, self.trap = None, False, None


@dataclass(slots=True)
class Counts:
    """Number of connections that were reset, of bytes that were held (or slowed down, or sent alone), and of traps that
    sprang, so far."""

    reset: int = 0
    held: int = 0
    slowed: int = 0
    sliced: int = 0
    sprung: int = 0


@dataclass(slots=True, eq=False)
class Pump:
    """Moves the bytes of one direction of one connection."""

    direction: Direction
    source: asyncio.StreamReader
    sink: asyncio.StreamWriter
    rng: random.Random
    counts: Counts
    _passed: int = 0
    _tail: bytes = b""
    _queue: asyncio.Queue[tuple[float, bytes | None]] = field(default_factory=lambda: asyncio.Queue(_IN_FLIGHT))

    async def run(self) -> None:
        """Move bytes until the end of the source is passed on. Raises OSError when the connection must be reset."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take())
            group.create_task(self._give())

    async def _take(self) -> None:
        clock, at = asyncio.get_running_loop().time, 0.0
        while True:
            try:
                data: bytes | None = await self.source.read(_CHUNK)
            except OSError:
                data = None  # a reset travels as slowly as anything
            delay = self.direction.latency_s + self.rng.uniform(-self.direction.jitter_s, self.direction.jitter_s)
            at = max(at, clock() + delay)  # in order
            self.counts.slowed += len(data or b"") if delay > 0 else 0
            await self._queue.put((at, data))
            if not data:
                return

    async def _give(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            at, data = await self._queue.get()
            await asyncio.sleep(max(0.0, at - clock()))
            await self._hole(data or b"")
            if data is None:
                raise ConnectionResetError
            if not data:
                with suppress(OSError, RuntimeError):  # it is closed already
                    self.sink.write_eof()
                return
            await self._pass(data)

    async def _hole(self, data: bytes) -> None:
        self.counts.held += len(data) if self.direction.black_hole else 0
        while self.direction.black_hole:  # noqa: ASYNC110 - a plain field, so that tests read well
            await asyncio.sleep(_LOOK_S)

    async def _pass(self, data: bytes) -> None:
        trap = self.direction.trap
        place = trap.place(self._passed, self._tail, data) if trap is not None else None
        if trap is None or place is None:
            await self._write(data)
            return
        await self._write(data[:place])
        self.direction.trap = trap if trap.again else None
        self.direction.black_hole = trap.action is TrapAction.HOLD
        trap.sprung.set()
        self.counts.sprung += 1
        if trap.action is TrapAction.RESET:
            raise ConnectionResetError
        await self._hole(data[place:])
        await self._write(data[place:])

    async def _write(self, data: bytes) -> None:
        self._passed += len(data)
        self._tail = (self._tail + data)[-256:]
        size = 1 if self.direction.slices else len(data) if self.direction.bandwidth is None else 1024
        self.counts.sliced += len(data) if self.direction.slices else 0
        for start in range(0, len(data), size or 1):
            part = data[start : start + size]
            try:
                self.sink.write(part)
            except RuntimeError as exc:  # uvloop's word for a closed one
                raise ConnectionResetError from exc
            await self.sink.drain()
            if self.direction.bandwidth is not None:
                await asyncio.sleep(len(part) / self.direction.bandwidth)
            elif self.direction.slices:
                await asyncio.sleep(0)


@dataclass(slots=True, eq=False)
class FaultProxy:
    """Listens on ``port`` of this host and forwards to ``upstream``, a port of it too, which may be set later."""

    port: int
    upstream: int | None = None
    rng: random.Random = field(default_factory=random.Random)
    up: Direction = field(default_factory=Direction)
    """Settings from the clients to the server."""
    down: Direction = field(default_factory=Direction)
    """Settings from the server to the clients."""
    accepted: int = 0
    counts: Counts = field(default_factory=Counts)
    _server: asyncio.Server | None = None
    _open: dict[asyncio.Task[None], tuple[asyncio.StreamWriter, ...]] = field(default_factory=dict)

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return len(self._open)

    async def listen(self) -> None:
        """Accept connections (again). Raises OSError when the port is taken."""
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    def refuse(self) -> None:
        """Refuse new connections until ``listen``; those that live go on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def reset(self) -> None:
        """Reset all connections, on both ends."""
        self.counts.reset += len(self._open)
        for task, writers in list(self._open.items()):
            for writer in writers:
                _reset(writer)
            task.cancel()

    def black_hole(self, on: bool = True) -> None:
        """Let nothing pass in either direction, while connections stay."""
        self.up.black_hole = self.down.black_hole = on

    def slow(self, latency_s: float, jitter_s: float = 0.0, bandwidth: float | None = None) -> None:
        """Slow both directions down."""
        for direction in (self.up, self.down):
            direction.latency_s, direction.jitter_s, direction.bandwidth = latency_s, jitter_s, bandwidth

    async def heal(self) -> None:
        """Undo all faults, and listen."""
        self.up.heal()
        self.down.heal()
        await self.listen()

    async def close(self) -> None:
        """Refuse and reset."""
        self.refuse()
        tasks = list(self._open)
        self.reset()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.accepted += 1
        self._open[task] = (writer,)
        try:
            if self.upstream is None:
                raise ConnectionRefusedError
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self.upstream)
            self._open[task] = (writer, to_server)
            async with asyncio.TaskGroup() as group:
                group.create_task(Pump(self.up, reader, to_server, self.rng, self.counts).run())
                group.create_task(Pump(self.down, from_server, writer, self.rng, self.counts).run())
        except* _TASK_LEFT:
            for each in self._open[task]:
                _reset(each)
        finally:
            for each in self._open.pop(task):
                each.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    with suppress(OSError, AttributeError, ValueError):  # closed already; uvloop has no socket then
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
    writer.transport.abort()


@asynccontextmanager
async def open_proxy(upstream: int | None = None, *, port: int = 0, seed: int = 0) -> AsyncIterator[FaultProxy]:
    """Yield a listening proxy; port 0 means a free one. Raises OSError."""
    proxy = FaultProxy(port or allot(["proxy"], {}, {})["proxy"], upstream, random.Random(seed))
    await proxy.listen()
    try:
        yield proxy
    finally:
        await proxy.close()
