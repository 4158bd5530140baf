"""A live connection that comes back: it reconnects with jitter, joins its conversations again from their cursors, and
renews its token before that ends.

    live = LiveConnection("ws://127.0.0.1:8081/ws", token)
    live.subscribe(conversation_id, listener, after=0)
    await live.run()
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from millrace_client.cursors import CursorStore
from millrace_client.errors import ProtocolError, Unauthenticated
from millrace_client.frames import (
    ClientFrame,
    Connected,
    ContentFrame,
    ErrorFrame,
    Frame,
    Joined,
    LeaveConversation,
    Left,
    Reconnect,
    RefreshToken,
    TokenRefreshed,
    decode_frame,
    place_of,
)
from millrace_client.read_gate import ReadGate
from millrace_client.reconnect import ReconnectTimer
from millrace_client.refresh import TokenRefresher
from millrace_client.subscription import ConnectionListener, Listener, Subscription
from millrace_client.sync import ConversationSync
from millrace_client.tokens import Token, TokenSource
from millrace_client.transport import ClientTransport, Ending, ending_of, open_transport

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class LiveConnection:
    """The live connection of one user's device. Each new one goes to one of ``urls``, at random.

    ``persistent`` goes on also after answers at which a client usually gives up: a token that does not hold.
    """

    urls: Sequence[str] | str
    token: Token = field(repr=False)
    listener: ConnectionListener | None = None
    cursors: CursorStore | None = None
    device: str | None = None
    timer: ReconnectTimer = field(default_factory=ReconnectTimer)
    persistent: bool = False
    ping_interval_s: float | None = 20.0
    reconnects: int = 0
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    tokens: TokenSource = field(init=False)
    _refresher: TokenRefresher = field(init=False)
    _transport: ClientTransport | None = None
    _reading: ReadGate = field(default_factory=ReadGate)
    _stopped: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _refs: int = 0
    _refresh_ref: int | None = None
    _was_renewed: bool = False

    def __post_init__(self) -> None:
        self.tokens = TokenSource(self.token)
        self._refresher = TokenRefresher(self.tokens, self._send_token)

    # conversations

    def subscribe(
        self, conversation_id: str, listener: Listener, *, after: int | None = None, commits_itself: bool = True
    ) -> Subscription:
        """Follow a conversation after its stored cursor, or else after the seq ``after``; without both from now on."""
        stored = self.cursors.load(conversation_id) if self.cursors is not None else None
        sync = ConversationSync(conversation_id, *(stored or (after, None)))
        subscription = Subscription(self, listener, sync, self.cursors, commits_itself)
        self.subscriptions[conversation_id] = subscription
        if self._transport is not None:
            subscription.join()
        return subscription

    async def unsubscribe(self, conversation_id: str) -> None:
        """Follow a conversation no longer."""
        if self.subscriptions.pop(conversation_id, None) is not None:
            await self.send(LeaveConversation(id=conversation_id))

    # living

    async def run(self) -> None:
        """Stay connected until ``stop`` or ``close``. Raises Unauthenticated when the token does not hold, Refused,
        ProtocolError, and what a listener raises."""
        try:
            while not self._stopped.is_set():
                ending = await self._connect_once()
                if self._is_stopped():
                    return
                await self._judge(ending)
                self.reconnects += 1
                _log.info("disconnected", extra={"reason": ending.reason})
                if self.listener is not None:
                    self.listener.on_disconnected(ending.reason)
                await self._wait(ending)
        finally:
            for task in self._tasks:
                task.cancel()

    def _is_stopped(self) -> bool:
        return self._stopped.is_set()  # set by others while we waited

    async def _connect_once(self) -> Ending:
        """Open a connection and live through it; return why it ended."""
        url = self.urls if isinstance(self.urls, str) else random.choice(self.urls)
        try:
            token = await self.tokens.current()
        except Exception as exc:  # of the application's provider, which may need a network, too
            return Ending(f"has no token: {type(exc).__name__}")
        try:
            transport = await open_transport(url, token, self.device, self.ping_interval_s)
        except (ConnectionClosed, InvalidHandshake, OSError, TimeoutError) as exc:
            return ending_of(exc)
        try:
            if self._is_stopped():
                return Ending("was stopped")
            self.opened(transport)
            return await self._read(transport)
        finally:
            self._transport = None
            self._refresher.stop()
            for subscription in self.subscriptions.values():
                subscription.sync.disconnected()
            await transport.close()

    async def _read(self, transport: ClientTransport) -> Ending:
        while True:
            try:
                raw = await transport.recv(decode=False)
            except ConnectionClosed as exc:
                return ending_of(exc)
            await self._reading.wait()
            if self._is_stopped():
                return Ending("was stopped")
            self.receive(raw)

    async def _judge(self, ending: Ending) -> None:
        """Raise the ending's error, unless another try may help."""
        error = ending.error
        if error is None or self.persistent:
            return
        if not isinstance(error, Unauthenticated) or not self.tokens.is_renewable or self._was_renewed:
            raise error
        self._was_renewed = True
        with suppress(Exception):  # of the application's provider: the next try asks it again
            await self.tokens.renew(await self.tokens.current())

    async def _wait(self, ending: Ending) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self.timer.wait_s(asyncio.get_running_loop().time(), ending.retry_after_s)):
                await self._stopped.wait()

    def opened(self, transport: ClientTransport) -> None:
        """Use this connection from now on, and join all conversations on it."""
        self._transport = transport
        for subscription in self.subscriptions.values():
            subscription.sync.connected()
            subscription.join()

    # frames

    def receive(self, raw: bytes) -> None:
        """Take in one frame. Raises ProtocolError, and what a listener raises."""
        if (place := place_of(raw)) is not None:
            conversation_id, seq = place
            subscription = self.subscriptions.get(conversation_id)
            if subscription is not None:
                self.timer.made_progress()
                subscription.content(seq, raw)
                return
            if self.listener is None:
                return  # a hint, which nobody wants
        try:
            frame = decode_frame(raw)
        except ValueError as exc:
            raise ProtocolError("the server has sent what is no frame") from exc
        self._dispatch(frame, raw)

    def _dispatch(self, frame: Frame, raw: bytes) -> None:
        self.timer.received(frame, asyncio.get_running_loop().time())
        match frame:
            case Connected(expires_at=expires_at):
                self._was_renewed = False
                self._refresher.expires(expires_at)
            case TokenRefreshed(expires_at=expires_at):
                self._refresher.expires(expires_at)
            case Reconnect(after_ms=after_ms):
                self.call_later(after_ms / 1000, self._leave)
            case ErrorFrame(ref=int() as ref) if ref == self._refresh_ref:
                self._refresher.refused()
        subscription = self._about(frame)
        if subscription is None:
            if self.listener is not None:
                self.listener.on_frame(frame, raw)
        elif isinstance(frame, ContentFrame) and frame.seq:
            subscription.content(frame.seq, raw)
        else:
            subscription.frame(frame, raw)

    def _about(self, frame: Frame) -> Subscription | None:
        """Return the subscription that a frame is for."""
        if isinstance(frame, ErrorFrame):
            return next((s for s in self.subscriptions.values() if s.sync.is_join(frame.ref)), None)
        id_ = frame.id if isinstance(frame, Joined | Left) else getattr(frame, "conversation_id", None)
        return self.subscriptions.get(id_) if id_ is not None else None

    # sending

    def next_ref(self) -> int:
        """Return a ``ref`` that no other frame of this connection has."""
        self._refs += 1
        return self._refs

    async def send(self, frame: ClientFrame) -> None:
        """Send the frame; while the connection is away it is dropped."""
        if self._transport is not None:
            await _send(self._transport, frame)

    def send_soon(self, frame: ClientFrame) -> None:
        """Send the frame from the event loop, on this connection and on no later one."""
        if self._transport is not None:
            self._spawn(_send(self._transport, frame))

    def call_later(self, after_s: float, call: Callable[[], None]) -> None:
        """Call after this time, if this connection still lives then."""
        transport = self._transport

        def if_it_lives() -> None:
            if transport is not None and self._transport is transport:
                call()

        asyncio.get_running_loop().call_later(after_s, if_it_lives)

    async def _send_token(self, token: str) -> None:
        self._refresh_ref = self.next_ref()
        await self.send(RefreshToken(token=token, ref=self._refresh_ref))

    # reading and leaving

    def pause_reading(self, holder: object = None) -> None:
        """Read nothing until each holder resumes. The server closes a client that pauses for too long."""
        self._reading.pause(holder)

    def resume_reading(self, holder: object = None) -> None:
        """Read on, unless another holder has paused the reading."""
        self._reading.resume(holder)

    def abort(self) -> None:
        """Cut the connection without a closing handshake; it comes back."""
        if self._transport is not None:
            self._transport.abort()

    def stop(self, *, abruptly: bool = False) -> None:
        """Go away for good, without waiting for the end; ``abruptly`` without a closing handshake, too."""
        self._stopped.set()
        self._reading.open()
        if abruptly:
            self.abort()
        else:
            self._leave()

    async def close(self) -> None:
        """Go away for good; return when the connection is closed."""
        self.stop()
        if self._transport is not None:
            await self._transport.wait_closed()

    def _leave(self) -> None:
        if self._transport is not None:
            self._spawn(self._transport.close())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _send(transport: ClientTransport, frame: ClientFrame) -> None:
    with suppress(ConnectionClosed):  # run() comes back
        await transport.send(msgspec.json.encode(frame), text=True)
