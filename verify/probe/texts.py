"""Rooms of short texts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from millrace_client import LiveConnection
from millrace_client.frames import Frame, StatusUpdated

from domain.presence import FRESH_S
from verify.activity import Access
from verify.edges import Edge
from verify.probe.doors import Doors
from verify.probe.room import DEVICE, ProbeRoom
from verify.probe.track import Track, Watermark

EDGES = (Edge.ACCEPTED, Edge.DELIVERED, Edge.STATUS, Edge.SEARCHED, Edge.NOTIFIED, Edge.COUNTED)
SAMPLED = 2
"""Every so many messages of a room one is searched, and looked for in the counts."""


@dataclass(slots=True, kw_only=True)
class TextRoom(ProbeRoom):
    """A conversation of a sender and a receiver, who are connected, and a reader, who never is.

    Its change log holds messages only, so that a seq is the number of messages up to there.
    """

    sender: str
    tracks: Mapping[Edge, Track[int]]
    told: Watermark
    """The track of ``Edge.STATUS``."""
    every_s: float = 0.5
    most: int = 8
    absence_counts_at: float = 0.0
    """Time from which a user without a connection is known to be away; a new stack does not trust presence before."""

    async def open(self, access: Access) -> None:
        """Connect both; return when the receiver has joined."""
        token = access.token(self.sender)
        self.connect(LiveConnection(access.ws, token, SenderScreen(self), device=DEVICE, persistent=True))
        await ProbeRoom.open(self, access)
        self.absence_counts_at = time.monotonic() + FRESH_S

    def on_content(self, seq: int, raw: bytes) -> None:
        """Note that a message is on the receiver's screen."""
        self.tracks[Edge.DELIVERED].reach(seq, time.monotonic())

    async def send(self, doors: Doors, number: int) -> None:
        """Send the room's next message, and repeat it until it is accepted."""
        began, sampled = time.monotonic(), number % SAMPLED == 0
        under_way = {
            edge: track.begin(began)
            for edge, track in self.tracks.items()
            if (sampled or edge not in (Edge.SEARCHED, Edge.COUNTED))
            and (edge is not Edge.NOTIFIED or began >= self.absence_counts_at)
        }
        seq, answered = await self.post(doors, self.sender, number, word_of(self.run) if sampled else "")
        self.tracks[Edge.ACCEPTED].reach(seq, answered)
        for edge, measurement in under_way.items():
            self.tracks[edge].expect(seq, measurement)

    async def remind(self, doors: Doors) -> None:
        """Send a message that is not measured, where a status is missing: it may be lost, and the next one heals it."""
        if self.told.waiting:
            await self.post(doors, self.sender, self.next_number())


@dataclass(frozen=True, slots=True)
class SenderScreen:
    """The sender's screen, which is told how far the receiver has got."""

    room: TextRoom

    def on_frame(self, frame: Frame, raw: bytes) -> None:
        """Take the watermark of the receiver."""
        room = self.room
        if isinstance(frame, StatusUpdated) and (frame.conversation_id, frame.user_id) == (
            room.conversation_id,
            room.receiver,
        ):
            room.told.reach_all(frame.delivered_seq, time.monotonic())

    def on_disconnected(self, reason: str) -> None:
        """Do nothing: the connection comes back."""


def word_of(run: str) -> str:
    """Return a word that is in no message but the sampled ones of the run."""
    return f"probed{run}"
