"""Flow control of a connection in both directions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from uvicorn.protocols.http.flow_control import FlowControl

MIN_ANSWER_PART = 16 * 1024
"""Bytes that a client must take of an answer that waits for it, each time the patience with it ends."""


class Flow(FlowControl):
    """Flow control that holds back received bytes that are not parsed yet, and watches that answers are taken.

    ``resumed`` parses what was held back, unless ``is_queued`` says that parsed requests wait for their turn: the one
    under way has its whole body then, and each look for more of it would let others in. ``stalled`` is called when the
    client takes less than ``MIN_ANSWER_PART`` of a waiting answer within ``patience_s``.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        resumed: Callable[[], None],
        is_queued: Callable[[], bool],
        stalled: Callable[[], None],
        patience_s: float,
    ) -> None:
        super().__init__(transport)
        self._resumed = resumed
        self._is_queued = is_queued
        self._stalled = stalled
        self._patience_s = patience_s
        self._check: asyncio.TimerHandle | None = None

    def resume_reading(self) -> None:
        """Parse what was held back, and read on when all of it is taken."""
        if self.read_paused and not self._is_queued():
            self.read_paused = False
            self._resumed()
            if not self.read_paused and not self._transport.is_closing():
                self._transport.resume_reading()

    def pause_writing(self) -> None:
        """Stop to write, and start to watch."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """Write on."""
        super().resume_writing()
        if self._check is not None:
            self._check.cancel()
            self._check = None

    def _watch(self) -> None:
        waiting = self._transport.get_write_buffer_size()
        self._check = asyncio.get_running_loop().call_later(self._patience_s, self._compare, waiting)

    def _compare(self, waiting: int) -> None:
        if waiting - self._transport.get_write_buffer_size() < MIN_ANSWER_PART:
            self._stalled()
        else:
            self._watch()
