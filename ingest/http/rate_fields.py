"""Header fields of answers that tell callers their budgets: ``RateLimit-Policy`` and ``RateLimit``.

They have the form of draft-ietf-httpapi-ratelimit-headers-10: lists of structured fields, one item for each budget that
the call has taken from. ``q`` tokens at most, all of them back after ``w`` seconds; ``r`` left, all back after ``t``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from starlette.types import Scope

from domain.rates import Standing

_NOTED = "millrace.standings"


def note(scope: Scope, standing: Standing) -> None:
    """Keep a budget for the fields of the answer."""
    if not standing.limit.is_off:
        scope.setdefault(_NOTED, []).append(standing)


def rate_fields(scope: Scope) -> list[tuple[bytes, bytes]]:
    """Return the fields for the budgets that the call has taken from; none when it has taken from none."""
    standings: Sequence[Standing] = scope.get(_NOTED, ())
    if not standings:
        return []
    policy = ", ".join(
        f'"{one.action}";q={int(one.limit.burst)};w={math.ceil(one.limit.window_s)}' for one in standings
    )
    left = ", ".join(f'"{one.action}";r={int(one.remaining)};t={math.ceil(one.reset_s)}' for one in standings)
    return [(b"ratelimit-policy", policy.encode()), (b"ratelimit", left.encode())]
