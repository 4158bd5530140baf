"""Conflation for a slow reader: of each subject only the latest frame waits, so that the last one is never missed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from gateway.channels import Envelope

CONFLATED_MAX = 256 * 1024
"""Bytes; so many watermarks are over a thousand members'."""

Key: TypeAlias = tuple[str, str]
"""(kind, about)."""


def key_of(envelope: Envelope) -> Key:
    """Return the subject of an envelope: a watermark is of one member, everything else of a conversation."""
    return envelope.kind, envelope.about


@dataclass(slots=True)
class ConflatingBuffer:
    """Frames by subject, in the order in which the subjects last changed."""

    _envelopes: dict[Key, Envelope] = field(default_factory=dict)
    _size: int = 0

    def __bool__(self) -> bool:
        return bool(self._envelopes)

    def put(self, envelope: Envelope) -> bool:
        """Keep the frame in place of the one on its subject; return False when the buffer holds too much then.

        A repeated or late frame does not replace one that goes further.
        """
        key = key_of(envelope)
        before = self._envelopes.get(key)
        if before is not None:
            if before.seq > envelope.seq:
                return True
            del self._envelopes[key]
            self._size -= len(before.frame)
        self._envelopes[key] = envelope
        self._size += len(envelope.frame)
        return self._size <= CONFLATED_MAX

    def take(self) -> list[bytes]:
        """Return all frames, and keep none."""
        taken, self._envelopes, self._size = [each.frame for each in self._envelopes.values()], {}, 0
        return taken
