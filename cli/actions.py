"""Record of what operators do: a row of ``operator_actions`` for each command that changes something."""

from __future__ import annotations

import getpass
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

_NAME_MAX = 200


def operator() -> str:
    """Return who runs the command: MILLRACE_OPERATOR, else the user of this machine."""
    given = os.environ.get("MILLRACE_OPERATOR", "").strip()
    if given:
        return given[:_NAME_MAX]
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user without a name
        return f"uid {os.getuid()}"


@asynccontextmanager
async def recorded(dsn: str, command: str, scope: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """Yield the result of an action, to be filled: a row is written before, and completed afterwards.

    A row without a result is that of an action that was ended from outside. Raises Unavailable; then nothing was done.
    """
    from adapters.postgres.operator_actions import begin, end
    from adapters.postgres.pool import open_pool

    async with open_pool(dsn, size=1) as pool:
        number, result = await begin(pool, operator(), command, scope), dict[str, Any]()
        try:
            yield result
        except Exception as exc:  # whatever ends the action, its row says so
            result["failed"] = type(exc).__name__
            raise
        finally:
            await end(pool, number, result)
