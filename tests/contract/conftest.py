"""What the contracts share."""

from __future__ import annotations

import pytest


def real_url(request: pytest.FixtureRequest) -> str:
    """The server that the fixture's parameter names: ``valkey``, or ``cluster``."""
    if request.param == "cluster":
        return str(request.getfixturevalue("redis_cluster").url)
    return str(request.getfixturevalue("redis_url"))
