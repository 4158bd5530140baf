"""Actions of operators in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from adapters.postgres.pool import Pool, connection
from adapters.postgres.statements import load

_SQL = load("operator_actions")


async def begin(pool: Pool, operator: str, command: str, scope: Mapping[str, Any]) -> int:
    """Store an action that begins; return its number. Raises Unavailable."""
    params = {"operator": operator, "command": command, "scope": orjson.dumps(scope).decode()}
    async with connection(pool) as conn:
        [number] = await (await conn.execute(_SQL["begin"], params)).fetchone() or (0,)
        return int(number)


async def end(pool: Pool, number: int, result: Mapping[str, Any]) -> None:
    """Store the result of an action. Raises Unavailable."""
    async with connection(pool) as conn:
        await conn.execute(_SQL["end"], {"number": number, "result": orjson.dumps(result).decode()})
