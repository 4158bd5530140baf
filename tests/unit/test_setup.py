"""Topics are applied once the broker answers; a broker that never does is named in time."""

from __future__ import annotations

from functools import partial

import pytest

from domain.errors import Unavailable
from runtime.kafka_settings import Kafka
from stack import setup
from stack.errors import OperatorError
from stack.standstill import Activity, Standstill


async def attempts(monkeypatch: pytest.MonkeyPatch, pids: list[int], seen: Activity) -> int:
    """Apply the topics to a broker that is silent for 10 s each time; return the number of attempts, at most 40."""
    now, tried = 0.0, 0

    async def apply(*_: object, **__: object) -> list[str]:
        nonlocal now, tried
        now, tried = now + 10, tried + 1
        if tried == 40:
            return []
        raise Unavailable("Kafka does not answer")

    async def sleep(_: float) -> None:
        pass

    monkeypatch.setattr("adapters.kafka.topics.apply", apply)
    monkeypatch.setattr("stack.setup.asyncio.sleep", sleep)
    monkeypatch.setattr(setup, "Standstill", partial(Standstill, clock=lambda: now, look=lambda _: seen))
    try:
        await setup.apply_topics(Kafka(bootstrap="127.0.0.1:9"), 1, lambda: pids)
    except OperatorError as exc:
        assert "Kafka does not answer" in str(exc)
    return tried


async def test_a_broker_of_somebody_else_has_a_minute(monkeypatch: pytest.MonkeyPatch):
    assert await attempts(monkeypatch, [], Activity(0.0, False)) == 7


async def test_a_broker_of_ours_that_stands_still_has_a_minute(monkeypatch: pytest.MonkeyPatch):
    assert await attempts(monkeypatch, [1], Activity(0.0, False)) == 7


async def test_a_broker_of_ours_that_works_is_waited_for(monkeypatch: pytest.MonkeyPatch):
    assert await attempts(monkeypatch, [1], Activity(0.0, True)) == 40
