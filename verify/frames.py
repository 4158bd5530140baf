"""The content frames that the members of one conversation are sent, compared byte by byte.

Many members live in one process, so a frame that thousands of them get is parsed only when its bytes differ.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson


@dataclass(slots=True)
class Frames:
    """The first copy of each frame by its seq, and the seqs of which somebody was sent another one."""

    by_seq: dict[int, bytes] = field(default_factory=dict)
    differing: list[int] = field(default_factory=list)

    def same(self, seq: int, raw: bytes) -> bool:
        """Return True when others were sent the same under this seq; a message's status may have moved on."""
        first = self.by_seq.setdefault(seq, raw)
        if first is raw or first == raw or _without_status(first) == _without_status(raw):
            return True
        self.differing.append(seq)
        return False


def _without_status(raw: bytes) -> Any:
    frame = orjson.loads(raw)
    frame.get("message", {}).pop("status", None)
    return frame
