"""Pruning in the background: in steps, one table after the other, whatever the store does meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from pydantic import ValidationError

from domain.errors import Unavailable
from domain.retention import DAY_S, HOUR_S, RULES, Kept, Rule, Step, rules_of
from runtime.retention import Pruning, Retention
from schemas.topics import stages


@dataclass
class Store:
    """Old rows by table. ``down``: it does not answer."""

    old: dict[str, int]
    down: bool = False
    steps: list[tuple[str, str | None]] = field(default_factory=list)

    async def prune(self, rule: Rule, after: str | None, limit: int) -> Step:
        self.steps.append((rule.table, after))
        if self.down:
            raise Unavailable("the store does not answer")
        rows = min(limit, self.old[rule.table])
        self.old[rule.table] -= rows
        return Step(rows, str(self.old[rule.table]) if rows == limit else None)


def pruning(store: Store, clock: list[float], rules: Sequence[Rule]) -> Pruning:
    return Pruning(store.prune, rules, rows=10, clock=lambda: clock[0])


async def test_a_round_goes_on_where_the_last_step_ended_and_the_next_round_begins_anew():
    store, clock = Store({"outbox": 25, "tickets": 3}), [0.0]
    pruner = pruning(store, clock, [Rule("outbox", "ingest", every_s=60), Rule("tickets", "ingest", every_s=10)])
    assert [await pruner.turn() for _ in range(3)] == [0.0, 0.0, 10.0]
    assert store.steps == [("outbox", None), ("tickets", None), ("outbox", "15"), ("outbox", "5")]
    store.old["tickets"] = 1
    clock[0] = 10.0
    assert await pruner.turn() == 10.0
    assert store.steps[4:] == [("tickets", None)]
    clock[0] = 60.0
    assert await pruner.turn() == 10.0
    assert store.steps[5:] == [("outbox", None), ("tickets", None)]


async def test_a_store_that_is_down_is_asked_again_later():
    store, clock = Store({"outbox": 25}, down=True), [0.0]
    pruner = pruning(store, clock, [Rule("outbox", "ingest", every_s=60)])
    assert await pruner.turn() == 60.0
    assert await pruner.turn() == 60.0
    assert len(store.steps) == 1
    clock[0], store.down = 60.0, False
    await pruner.turn()
    assert store.old == {"outbox": 15}


async def test_a_process_without_rules_prunes_nothing():
    await pruning(Store({}), [0.0], []).run()


def test_each_rule_is_carried_out_by_a_process_that_there_is():
    assert {rule.by for rule in RULES} <= {"ingest", "audit", *stages()}


def test_a_setting_of_0_keeps_rows_for_good():
    everything = {rule.table for rule in RULES}
    kept = Retention(analytics_minutes_d=0, seen_notifications_d=0).kept()
    processes = ("ingest", "audit", *stages())
    assert {rule.table for process in processes for rule in rules_of(process, Kept())} == everything
    left = {rule.table for process in processes for rule in rules_of(process, kept)}
    assert everything - left == {"analytics_minutes", "notifications"}


def test_the_defaults_of_the_settings_are_those_of_the_rules():
    assert Retention().kept() == Kept()
    assert Retention(published_events_h=5, silent_devices_d=2).kept() == Kept(
        published_events_s=5 * HOUR_S, silent_devices_s=2 * DAY_S
    )
    with pytest.raises(ValidationError, match="published_events_h"):
        Retention(published_events_h=0)
    with pytest.raises(ValidationError, match="seen_notifications_d"):
        Retention(seen_notifications_d=5)
