"""A broken promise, and the form of a rule that finds it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from verify.final_state import FinalState
from verify.history import History, Room


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise. ``invariant`` is its number in docs/reliability.md; ``sort`` is what a person calls it:
    lost, doubled, reordered, wrong, or slow; ``count`` is how many frames or messages are concerned."""

    invariant: str
    sort: str
    text: str
    count: int = 1


Rule: TypeAlias = Callable[[Room, FinalState], Iterator[Violation]]
"""Compares one conversation as its clients saw it with its final state."""

RunRule: TypeAlias = Callable[[History, Sequence[FinalState]], Iterator[Violation]]
"""Compares a whole run with the final states of its conversations."""
