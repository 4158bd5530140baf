"""Registry of the bugs that a chat system could have, each put into one adapter or rule."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

Patch: TypeAlias = Callable[[], None]
BUGS: dict[str, Patch] = {}


def bug(patch: Patch) -> Patch:
    """Register a bug that the checker must always find, under its name with dashes."""
    BUGS[patch.__name__.replace("_", "-")] = patch
    return patch


def every(number: int) -> Callable[[], bool]:
    """True each so many calls."""
    count = itertools.count(1)
    return lambda: not next(count) % number


def changed(struct: Any, **fields: Any) -> Any:
    """A copy of a message or an event with other fields."""
    return msgspec.structs.replace(struct, **fields)
