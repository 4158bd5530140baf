"""Thinning of hints in conversations with many members and many messages. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.publications import Publication

HINTS_PER_S, HINTS_BURST_S = 100.0, 2.0
_MOST_KNOWN = 10_000
"""Conversations of which something is remembered; then what is not needed is forgotten."""


@dataclass(slots=True)
class HintBudget:
    """Bounds the hints of a conversation to about HINTS_PER_S after a burst.

    Small conversations get all of them. In large ones a hint that may not go yet replaces the one held back before it,
    so that the latest is always sent.
    """

    _free_at: dict[str, float] = field(default_factory=dict)
    _held: dict[str, list[Publication]] = field(default_factory=dict)

    def spend(self, conversation_id: str, hints: list[Publication], now: float) -> list[Publication]:
        """Return the hints if they may go now; else hold them back in place of those held before."""
        free_at = max(self._free_at.get(conversation_id, now - HINTS_BURST_S), now - HINTS_BURST_S)
        if free_at > now:
            self._held[conversation_id] = hints
            return []
        self._held.pop(conversation_id, None)
        self._free_at[conversation_id] = free_at + len(hints) / HINTS_PER_S
        if len(self._free_at) > _MOST_KNOWN:
            self._free_at = {id_: at for id_, at in self._free_at.items() if at > now or id_ in self._held}
        return hints

    def without(self, conversation_id: str, channel: str) -> None:
        """Drop hints held back for the channel of a user who is no member any more."""
        held = self._held.get(conversation_id)
        if held is not None:
            self._held[conversation_id] = [hint for hint in held if hint[0] != channel]

    def due(self, now: float) -> list[Publication]:
        """Return hints that were held back and may go now."""
        ready = [id_ for id_ in self._held if self._free_at[id_] <= now]
        due = [(id_, self._held.pop(id_)) for id_ in ready]
        return [hint for id_, hints in due for hint in self.spend(id_, hints, now)]

    @property
    def holds(self) -> bool:
        """True while anything is held back."""
        return bool(self._held)
