"""A user's client: the HTTP API, a live connection, and conversations as streams of frames.

async with open_client(http_url, ws_url, token) as client:
    conversation_id = await client.http.create_conversation(["bob"])
    await client.http.send(conversation_id, "hello")
    async for frame in client.follow(conversation_id, after=0):
        print(frame)
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from millrace_client.connection import LiveConnection
from millrace_client.cursors import Cursor, CursorStore
from millrace_client.errors import MembershipEnded
from millrace_client.frames import Frame, Reset, decode_frame
from millrace_client.http import HttpClient
from millrace_client.retries import open_http
from millrace_client.subscription import ConnectionListener, Listener, Subscription
from millrace_client.tokens import Token

_FULL, _LOW = 512, 128
"""A stream that holds so many frames pauses the reading, until only so few are left."""


@dataclass(slots=True, eq=False)
class FrameStream(Listener):
    """Frames of one conversation, in order, each content frame once. Iterate over it from one task.

    A frame counts as processed, and its seq is stored, when the next one is asked for. After a ``Reset`` the content
    above its ``start`` comes anew, as the server has it now: drop what was made of it.
    """

    live: LiveConnection
    conversation_id: str
    subscription: Subscription = field(init=False)
    _frames: deque[tuple[Frame, Cursor | None]] = field(default_factory=deque)
    """Frames, those with a place in the conversation with their cursors."""
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _processed: Callable[[], None] | None = None
    _error: BaseException | None = None
    _is_over: bool = False

    def __aiter__(self) -> FrameStream:
        return self

    async def __anext__(self) -> Frame:
        """Return the next frame. Raises MembershipEnded, and what has ended the live connection."""
        if self._processed is not None:
            self._processed()
            self._processed = None
        while not self._frames:
            if self._error is not None:
                raise self._error
            if self._is_over:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        frame, cursor = self._frames.popleft()
        if len(self._frames) <= _LOW:
            self.live.resume_reading(self)
        if isinstance(frame, Reset):
            self._processed = partial(self.subscription.commit_reset, Cursor(frame.start, frame.epoch))
        elif cursor is not None:
            self._processed = partial(self.subscription.commit, cursor)
        return frame

    # Listener

    def on_content(self, seq: int, raw: bytes) -> None:
        """Queue the frame."""
        self._put(decode_frame(raw), Cursor(seq, self.subscription.epoch))

    def on_frame(self, frame: Frame, raw: bytes) -> None:
        """Queue the frame."""
        self._put(frame)

    def on_ended(self, code: str, detail: str) -> None:
        """End the iteration with MembershipEnded, after the frames that came before."""
        self.end(MembershipEnded(self.conversation_id, code, detail))

    async def close(self) -> None:
        """Follow the conversation no longer."""
        await self.live.unsubscribe(self.conversation_id)
        self.live.resume_reading(self)
        self.end()

    def _put(self, frame: Frame, cursor: Cursor | None = None) -> None:
        self._frames.append((frame, cursor))
        self._arrived.set()
        if len(self._frames) >= _FULL and not self._is_over:
            self.live.pause_reading(self)

    def end(self, error: BaseException | None = None) -> None:
        """End the iteration after the frames that are queued."""
        self._error, self._is_over = self._error or error, True
        self._arrived.set()


@dataclass(slots=True, eq=False)
class Client:
    """A user's device: ``http`` for calls, ``live`` for what arrives."""

    http: HttpClient
    live: LiveConnection
    _streams: list[FrameStream] = field(default_factory=list)

    def follow(self, conversation_id: str, *, after: int | None = None) -> FrameStream:
        """Return the frames of a conversation after its stored cursor, or else after the seq ``after``; without both
        from now on."""
        stream = FrameStream(self.live, conversation_id)
        stream.subscription = self.live.subscribe(conversation_id, stream, after=after, commits_itself=False)
        self._streams.append(stream)
        return stream

    async def run(self) -> None:
        """Keep the live connection; what ends it ends the streams, too."""
        error: BaseException | None = None
        try:
            await self.live.run()
        except BaseException as exc:
            error = exc
            raise
        finally:
            for stream in self._streams:
                stream.end(error)


@asynccontextmanager
async def open_client(
    http_url: str,
    ws_url: str,
    token: Token,
    *,
    cursors: CursorStore | None = None,
    device: str | None = None,
    listener: ConnectionListener | None = None,
) -> AsyncIterator[Client]:
    """Yield a client whose live connection is kept until the end. ``device`` tells a user's devices apart."""
    async with open_http(http_url) as transport:
        live = LiveConnection(ws_url, token, listener=listener, cursors=cursors, device=device)
        client = Client(HttpClient(transport, live.tokens), live)
        running = asyncio.create_task(client.run())
        try:
            yield client
        finally:
            await live.close()
            running.cancel()
            await asyncio.wait({running})
            error = None if running.cancelled() else running.exception()
        if error is not None:
            raise error
