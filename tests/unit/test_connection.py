"""How long a connection lives by its token."""

from __future__ import annotations

import asyncio

import pytest

from domain.identity import LEEWAY_S, Identity
from gateway.connection import Connection


@pytest.mark.parametrize(("left", "lives"), [(60.0, 60.0), (0.5, 0.5), (-10.0, LEEWAY_S - 10.0), (-LEEWAY_S, 0.0)])
async def test_it_ends_with_the_token_or_with_the_leeway_that_let_it_in(left: float, lives: float):
    now = 1_800_000_000.0
    identity = Identity("bob", now + left, "jti", now - 60)
    connection = Connection(None, None, None, None, "phone", identity, None)
    connection.live_by(identity, now)
    assert connection._expiry.when() - asyncio.get_running_loop().time() == pytest.approx(lives, abs=0.2)
    connection._expiry.cancel()
