"""Turns: how much of a batch is worked on before others have theirs. Pure.

The weight of a record is the number of rows that it may write. A batch whose records weigh little is one part. What
weighs more is divided: the records that fit into the limit of a part come first, then those of one other conversation,
and the rest is left for a later turn. So a conversation of thousands of members holds nobody up for longer than it
takes to handle one of its messages, and each turn gets one such conversation further.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

from schemas.codec import Malformed, decode
from schemas.events import AnyEvent
from streams.dead_letters import ConsumerRecord

OwnerOf: TypeAlias = Callable[[AnyEvent], str | None]

PART_MAX = 2_000
"""Rows of a part. A single record may weigh more; it is a part of its own."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Positions of a batch: those of each part, in the order in which they are handled, and those left for later."""

    parts: Sequence[Sequence[int]]
    left: Sequence[int] = ()


def lane_key(consumed: ConsumerRecord, owner_of: OwnerOf | None) -> bytes | None:
    """Return by what a record has its turns: by its key, or by its owner where a stage has owners.

    Records that are nobody's work have their turns together, as b"".
    """
    if owner_of is None:
        return consumed.key
    with suppress(Malformed):
        return (owner_of(decode(consumed.topic, consumed.key, consumed.value)) or "").encode()
    return b""


def turn(keys: Sequence[bytes | None], weights: Sequence[int], limit: int = PART_MAX) -> Turn:
    """Return the parts of this turn and what is left. Records of one key stay in their order."""
    light, others = _fitting(range(len(keys)), keys, weights, limit)
    if not others:
        return Turn([light] if light else [])
    heavy = [position for position in others if keys[position] == keys[others[0]]]
    first, _ = _fitting(heavy[1:], keys, weights, limit - weights[heavy[0]])
    part = [heavy[0], *first]
    chosen = set(part)
    return Turn([light, part] if light else [part], [position for position in others if position not in chosen])


def _fitting(
    positions: Iterable[int], keys: Sequence[bytes | None], weights: Sequence[int], limit: int
) -> tuple[list[int], list[int]]:
    """Return the positions that fit into the limit, and the others. Behind one of the latter none of its key fits."""
    fitting, others, closed = list[int](), list[int](), set[bytes | None]()
    for position in positions:
        if keys[position] in closed or weights[position] > max(limit, 0):
            closed.add(keys[position])
            others.append(position)
        else:
            limit -= weights[position]
            fitting.append(position)
    return fitting, others
