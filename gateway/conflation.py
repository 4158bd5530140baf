"""News that waits for a slow reader: of each subject the furthest, so that the last is never missed. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson

HELD = 256 * 1024
"""Bytes; so many watermarks are over a thousand members'."""

Subject: TypeAlias = tuple[str, str, str]
Rank: TypeAlias = tuple[int, int]


@dataclass(slots=True)
class Held:
    """Frames by subject, in the order in which the subjects were last news."""

    _frames: dict[Subject, tuple[Rank, bytes]] = field(default_factory=dict)
    _size: int = 0

    def __bool__(self) -> bool:
        return bool(self._frames)

    def put(self, payload: bytes) -> bool:
        """Hold it in place of what was held on its subject; False when too much is held then.

        What is told twice, or late, does not replace what goes further.
        """
        subject, rank = judged(orjson.loads(payload))
        before, old = self._frames.get(subject, (rank, b""))
        if before > rank:
            return True
        self._frames.pop(subject, None)
        self._frames[subject] = rank, payload
        self._size += len(payload) - len(old)
        return self._size <= HELD

    def take(self) -> list[bytes]:
        """All of them; they are held no more."""
        taken, self._frames, self._size = [frame for _, frame in self._frames.values()], {}, 0
        return taken


def judged(said: dict[str, Any]) -> tuple[Subject, Rank]:
    """What a frame is about, and how far it goes. A watermark is of one member, all else of a conversation."""
    type_, about = said["type"], said.get("conversationId", "")
    if type_ == "message_status":
        return (type_, about, said["userId"]), (said["deliveredSeq"], said["readSeq"])
    return (type_, about, ""), (said.get("seq", 0), 0)
