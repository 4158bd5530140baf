"""Frames of the server, compared with their exported schemas."""

from __future__ import annotations

from functools import cache
from typing import Any

import jsonschema_rs
import orjson

from schemas.export import FOLDER


def check(frame: dict[str, Any]) -> None:
    """Compare a frame with the schema of its type. Raises KeyError for a type without one."""
    _validators()[frame["type"]].validate(frame)


@cache
def _validators() -> dict[str, jsonschema_rs.Draft202012Validator]:
    made = {}
    for path in sorted((FOLDER / "frames").glob("*.json")):
        schema = orjson.loads(path.read_bytes())
        [type_] = schema["$defs"][path.stem]["properties"]["type"]["enum"]
        made[type_] = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    return made
