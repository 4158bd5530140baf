"""Fields of settings, as every group of them is made of."""

from __future__ import annotations

from typing import Annotated, TypeAlias, TypeVar

from pydantic import Field

T = TypeVar("T")
Count: TypeAlias = Annotated[int, Field(ge=0)]
Rate: TypeAlias = Annotated[float, Field(ge=0)]
Positive: TypeAlias = Annotated[float, Field(gt=0)]


def setting(default: T, description: str, unit: str = "") -> T:
    """Return a field with what docs/settings.md shows of it."""
    field: T = Field(default, description=description, json_schema_extra={"unit": unit})
    return field
