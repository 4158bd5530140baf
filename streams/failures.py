"""Causes of failures as operators may see them: names of types and places in the code, never a value."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

from domain.errors import Rejected

_FRAMES_MAX = 25
_HEADER_MAX = 4_000
_DIAGNOSIS = ("sqlstate", "constraint_name", "table_name", "column_name", "datatype_name")
"""What a database driver says about an error beside its text, which may quote values."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Failure of a record. ``stack`` has a line ``module:line function`` for each frame, the innermost last."""

    cause: str
    stack: str = ""
    detail: str = ""

    @property
    def about(self) -> dict[str, str]:
        """Return the headers of a dead letter about it, without their prefix."""
        return {name: text for name, text in (("detail", self.detail), ("stack", self.stack)) if text}


def failure_of(exc: Exception) -> Failure:
    """Return the failure that an exception tells of.

    Texts of other people's errors may quote content, so only the names of their types are kept; ours do not, and need
    no stack, for they are no bugs.
    """
    if isinstance(exc, Rejected):
        return Failure(f"{type(exc).__name__}: {exc}")
    return Failure(type(exc).__name__, "\n".join(_frames(exc))[-_HEADER_MAX:], _detail(exc))


def _frames(exc: Exception) -> Iterator[str]:
    frames: list[tuple[FrameType, int]] = list(traceback.walk_tb(exc.__traceback__))
    for frame, line in frames[-_FRAMES_MAX:]:
        yield f"{frame.f_globals.get('__name__', '?')}:{line} {frame.f_code.co_qualname}"


def _detail(exc: Exception) -> str:
    diagnosis = getattr(exc, "diag", None)
    named = ((name.removesuffix("_name"), getattr(diagnosis, name, None)) for name in _DIAGNOSIS)
    return ", ".join(f"{name} {value}" for name, value in named if isinstance(value, str))
