"""A member's live connection, as a good client keeps it: it stores the last contiguous seq, drops what it has, asks
for what it lacks, and comes back after any interruption with ``after``.

Many of these run in one process, so a frame that thousands of members get is compared byte by byte with its first
copy and parsed only once: see ``Frames``.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

PLACED = ("new_message", "conversation_changed", "media_ready")
"""The frames that have a place in their conversation: their seq."""
LATER = ("unavailable", "rate_limited")
"""Codes after which the same request may be made again."""
_HINT = b'{"type":"new_message"'


@dataclass(slots=True)
class Frames:
    """The content frames of one conversation: the first copy of each, parsed; and who was given another one."""

    by_seq: dict[int, bytes] = field(default_factory=dict)
    differing: list[int] = field(default_factory=list)

    def same(self, seq: int, raw: bytes) -> bool:
        """Whether this is what others got under this seq (a message's status may have moved on)."""
        first = self.by_seq.setdefault(seq, raw)
        if first is raw or first == raw or _without_status(first) == _without_status(raw):
            return True
        self.differing.append(seq)
        return False


def _without_status(raw: bytes) -> Any:
    said = orjson.loads(raw)
    said.get("message", {}).pop("status", None)
    return said


class Screen(Protocol):
    """Where a member sees what arrives."""

    def joined(self, seq: int) -> None:
        """The conversation is joined; what follows comes after ``seq``."""

    def shown(self, seq: int, raw: bytes) -> None:
        """The next content frame in order."""

    def other(self, said: dict[str, Any]) -> None:
        """Another frame: a status, a notification, an error, …"""


@dataclass(slots=True)
class Live:
    """One member in one conversation. ``cursor`` is the last contiguous seq on the screen; None before the join."""

    urls: tuple[str, ...]
    """Gateways; each connection goes to one of them."""
    token: str
    conversation_id: str
    screen: Screen
    after: int | None = None
    acks: bool = True
    cursor: int | None = None
    raw_repeats: int = 0
    gaps: int = 0
    """Frames that came too early on a connection that was in step: a server never sends such."""
    reconnects: int = 0
    read: int = 0
    """The last seq that was told as read, on whichever connection."""
    awake: asyncio.Event = field(default_factory=asyncio.Event)
    """While it is cleared nothing is read."""
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    _socket: ClientConnection | None = None
    _joins: int = 0
    _acked: int = 0
    _read: int = 0
    _resyncing: bool = False
    _closing: bool = False
    _in_step: bool = False
    _mine: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        self.awake.set()
        place = f'","conversationId":"{self.conversation_id}","seq":'
        self._mine = tuple(f'{{"type":"{kind}{place}'.encode() for kind in PLACED)

    async def run(self) -> None:
        """Stay connected until ``close``. Raises nothing."""
        wait = 0.1
        while not self._closing:
            try:
                async with connect(
                    random.choice(self.urls),
                    additional_headers={"Authorization": f"Bearer {self.token}"},
                    compression=None,
                    max_size=2**20,
                    max_queue=256,
                    ping_interval=None,
                    open_timeout=20,
                    close_timeout=2,
                    proxy=None,
                ) as socket:
                    self._socket = socket
                    self._acked = self._read = 0  # what was acknowledged may have died with the node
                    await self._join(socket)
                    async for raw in socket:
                        wait = 0.1
                        await self.awake.wait()
                        if self._is_closing():
                            return
                        self._arrived(raw if isinstance(raw, bytes) else raw.encode())
            except (ConnectionClosed, InvalidHandshake, OSError, TimeoutError):
                pass
            self._socket, self._in_step = None, False
            if self._is_closing():
                return
            self.reconnects += 1
            await asyncio.sleep(random.uniform(0, wait))
            wait = min(wait * 2, 3.0)

    def _is_closing(self) -> bool:
        return self._closing  # set by others while we waited

    async def _join(self, socket: ClientConnection) -> None:
        after = self.cursor if self.cursor is not None else self.after
        self._joins += 1  # a join ends the one before it, whose answer says nothing any more
        asked: dict[str, Any] = {"type": "join_conversation", "id": self.conversation_id, "ref": self._joins}
        if after is not None:
            asked["after"] = after
        self._resyncing = self._in_step = False
        await socket.send(orjson.dumps(asked).decode())

    def _arrived(self, raw: bytes) -> None:
        if raw.startswith(self._mine):
            start = raw.index(b'"seq":') + 6
            self._placed(int(raw[start : start + 20].partition(b",")[0]), raw)
            return
        if raw.startswith(_HINT):
            return  # of a conversation that this socket has not joined
        said = orjson.loads(raw)
        if said["type"] == "joined":
            self._is_joined(said["seq"])
        elif self._is_refused(said) and said["code"] in LATER:
            asyncio.get_running_loop().call_later(random.uniform(0.2, 1.0), self._join_again)
        else:
            self.screen.other(said)

    def _is_refused(self, said: dict[str, Any]) -> bool:
        return bool(said["type"] == "error" and said.get("ref") == self._joins)

    def is_out(self, said: dict[str, Any]) -> bool:
        """Whether this says that its user is no member: the answer to its last join, or the end of its stay."""
        if said["type"] == "left":
            return bool(said["id"] == self.conversation_id)
        return self._is_refused(said) and said["code"] == "not_found"

    def _is_joined(self, seq: int) -> None:
        if self.cursor is None:
            self.cursor = seq if self.after is None else self.after
            self.screen.joined(self.cursor)
        self._in_step = True
        self.ready.set()

    def _placed(self, seq: int, raw: bytes) -> None:
        if self.cursor is None:
            if self.after is None:
                return  # a hint from before the join
            self.cursor = self.after
            self.screen.joined(self.cursor)
        if seq <= self.cursor:
            self.raw_repeats += 1
        elif seq == self.cursor + 1:
            self.cursor = seq
            self.screen.shown(seq, raw)
        elif not self._resyncing and self._socket is not None:
            self.gaps += self._in_step
            self._resyncing = True  # a gap: ask for what is missing
            self._join_again()

    def _join_again(self) -> None:
        if self._socket is not None and not self._closing:
            asyncio.ensure_future(self._quietly(self._join(self._socket)))  # noqa: RUF006

    async def acknowledge(self, *, read: bool = False) -> None:
        """Tell the server how far this device, or its user, has got."""
        if self.cursor is None or not self._in_step:  # what is told before the join is refused
            return
        if read:
            self.read = self.cursor
        if self._read < self.read:  # also when it was told on an earlier connection, whose node may have lost it
            self._read, self._acked = self.read, max(self._acked, self.read)
            await self._tell("read", self.read)
        if self._acked < self.cursor:
            self._acked = self.cursor
            await self._tell("ack", self.cursor)

    async def _tell(self, kind: str, seq: int) -> None:
        said = {"type": kind, "conversationId": self.conversation_id, "seq": seq}
        if self._socket is not None:
            await self._quietly(self._socket.send(orjson.dumps(said).decode()))

    def cut(self) -> None:
        """The connection is lost, without a word; it comes back."""
        if self._socket is not None:
            self._socket.transport.abort()

    def end(self) -> None:
        """Go away for good, without a word."""
        self._closing = True
        self.cut()

    async def close(self) -> None:
        """Go away for good."""
        self._closing = True
        if self._socket is not None:
            await self._quietly(self._socket.close())

    async def _quietly(self, work: Any) -> None:
        try:
            await work
        except ConnectionClosed:
            return  # run() comes back
