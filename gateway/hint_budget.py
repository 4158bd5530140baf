"""Thinning of hints: in busy large conversations, and of a user's changing lists. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.publications import ListHint, Publication

HINTS_PER_S, HINTS_BURST_S = 100.0, 2.0
LISTS_PER_S, LISTS_BURST_S = 0.2, 20.0
"""Hints to one user about one list: after the first five, one in 5 s."""
_LOOK_S = 0.5
_MOST_KNOWN = 10_000
"""Keys of which something is remembered; then what is not needed is forgotten."""


@dataclass(slots=True)
class HintBudget:
    """Bounds the hints of a conversation, or of another key, to about ``per_s`` after a burst.

    Small conversations get all of them. In large ones a hint that may not go yet replaces the one held back before it,
    so that the latest is always sent.
    """

    per_s: float = HINTS_PER_S
    burst_s: float = HINTS_BURST_S
    _trim_at: int = 0
    _free_at: dict[str, float] = field(default_factory=dict)
    _held: dict[str, list[Publication]] = field(default_factory=dict)

    def spend(self, conversation_id: str, hints: list[Publication], now: float) -> list[Publication]:
        """Return the hints if they may go now; else hold them back in place of those held before."""
        free_at = max(self._free_at.get(conversation_id, now - self.burst_s), now - self.burst_s)
        if free_at > now:
            self._held[conversation_id] = hints
            return []
        self._held.pop(conversation_id, None)
        self._free_at[conversation_id] = free_at + len(hints) / self.per_s
        if len(self._free_at) > max(self._trim_at, _MOST_KNOWN):
            self._free_at = {id_: at for id_, at in self._free_at.items() if at > now or id_ in self._held}
            self._trim_at = 2 * len(self._free_at)  # so that trimming stays cheap when little can be forgotten
        return hints

    def is_held(self, conversation_id: str) -> bool:
        """Return whether hints of the conversation are held back."""
        return conversation_id in self._held

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


@dataclass(slots=True)
class ListBudget:
    """Bounds what a user's devices get when others create conversations with the user, or invite, add and remove.

    The first few hints are published as they are. Of those that come too fast, one ``list_changed`` stands for all.
    """

    _budget: HintBudget = field(default_factory=lambda: HintBudget(LISTS_PER_S, LISTS_BURST_S))
    _look_at: float = 0.0

    def spend(self, hint: ListHint, now: float) -> list[Publication]:
        """Return the hint if it may go now; else hold it back, together with those held before."""
        key = f"{hint.list} {hint.user_id}"
        publication = hint.collapsed if self._budget.is_held(key) else hint.publication
        return self._budget.spend(key, [publication], now)

    def due(self, now: float) -> list[Publication]:
        """Return hints that were held back and may go now; looks through them, who may be many, twice a second."""
        if now < self._look_at:
            return []
        self._look_at = now + _LOOK_S
        return self._budget.due(now)

    @property
    def holds(self) -> bool:
        """True while anything is held back."""
        return self._budget.holds
