"""Recovery: no lateness of messages vanishes, and each is charged to the faults that can have caused it."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import pytest

from schemas.topics import stages
from tests import make
from verify.checker import judge
from verify.edges import RULES, Edge, Measurement, Recovery, edges_of
from verify.history import Attempt, History, InjectedFault, Room, Screen, Sending
from verify.latencies import latency
from verify.recovery import calm, measured, set_recoveries
from verify.slowdown import BEARABLE, Slowdown, Spent, slowdown
from verify.workload import DeviceKind, DeviceSpec, RoomWorkload, Send, SendMode

END = 1000.0


def kill(role: str, at: float = 100.0) -> InjectedFault:
    return InjectedFault(f"kill-{role}", at, at, True, targets=(role,), recover_s=30.0, evidence="it ended")


def pause(role: str, at: float, until: float) -> InjectedFault:
    return InjectedFault(f"pause-{role}", at, until, True, targets=(role,), recover_s=45.0, evidence="it stood still")


def waits(*times: tuple[float, float | None]) -> list[Measurement]:
    return [Measurement(*each) for each in times]


def steady(begin: float, end: float, every: float = 0.25, taking: float = 0.05) -> list[Measurement]:
    """Messages that are in time."""
    count = int((end - begin) / every)
    return [Measurement(begin + n * every, begin + n * every + taking) for n in range(count)]


def recover(edge: Edge, taken: Sequence[Measurement], *faults: InjectedFault) -> list[Recovery | None]:
    set_recoveries(faults, {edge: taken}, END)
    return [fault.recoveries.get(edge) for fault in faults]


def lasting(recovery: Recovery | None) -> float:
    assert recovery is not None
    return recovery.last_s


def test_messages_in_time_are_no_lateness():
    assert recover(Edge.DELIVERED, steady(90, 130), kill("status")) == [None]


def test_messages_of_which_each_was_sent_after_the_kill_count_as_long_as_they_waited():
    sent = [100.001 + n / 40 for n in range(40 * 60)]
    [found] = recover(Edge.DELIVERED, [Measurement(at, max(160.0, at + 0.01)) for at in sent], kill("gateway"))
    assert lasting(found) == pytest.approx(60.0)
    assert found is not None
    assert (found.first_s, found.after_end_s) == (pytest.approx(0.001), pytest.approx(60.0))


def test_a_message_that_was_on_its_way_counts_from_the_injection():
    [found] = recover(Edge.DELIVERED, waits((99.5, 107.0)), kill("gateway"))
    assert found == Recovery(0.0, 7.0, 7.0)


@pytest.mark.parametrize("role", ["media", "search"])
def test_a_longer_fault_that_cannot_hurt_the_edge_cuts_nothing_and_is_not_charged(role):
    late = waits((100.1, 160.0))
    assert recover(Edge.DELIVERED, late, kill("gateway"), pause(role, 90, 300)) == [
        Recovery(pytest.approx(0.1), 60.0, 60.0, overdue_s=45.0),
        None,
    ]


def test_a_longer_fault_that_can_hurt_the_edge_is_charged_too_and_named():
    first, second = recover(Edge.DELIVERED, waits((100.1, 160.0)), kill("gateway"), pause("status", 90, 130))
    assert first is not None
    assert second is not None
    assert (first.last_s, first.overlaps, second.last_s, second.overlaps) == (
        60.0,
        ("pause-status",),
        70.0,
        ("kill-gateway",),
    )
    assert first.overdue_s == second.overdue_s == 15.0  # from the end of both and the bound on


def test_a_stage_that_is_away_is_seen_on_its_own_edge():
    [found] = recover(Edge.MEDIA, waits((101.0, 134.0)), kill("kafka"))
    assert lasting(found) == 34.0
    assert recover(Edge.MEDIA, waits((101.0, 134.0)), kill("search")) == [None]


def test_a_frozen_role_counts_from_the_freeze_and_its_span_is_shown():
    late = [Measurement(100 + n, 138.1) for n in range(35)]
    [found] = recover(Edge.DELIVERED, late, pause("gateway", 100, 135))
    assert found is not None
    assert (found.last_s, found.after_end_s, found.overdue_s) == (
        pytest.approx(38.1),
        pytest.approx(3.1),
        0.0,
    )


def test_lateness_goes_on_while_messages_are_late_and_ends_after_a_calm_time():
    calm_s = RULES[Edge.DELIVERED].calm_s
    chain = waits((101, 105), (105 + calm_s - 0.1, 120))
    assert lasting(recover(Edge.DELIVERED, chain, kill("status"))[0]) == 20.0
    apart = waits((101, 105), (105 + calm_s + 0.1, 120))
    assert lasting(recover(Edge.DELIVERED, apart, kill("status"))[0]) == 5.0


def test_what_was_late_before_a_fault_is_not_its_own():
    assert recover(Edge.DELIVERED, waits((90, 99)), kill("status")) == [None]


def test_a_message_that_never_arrives_is_late_until_the_end():
    [found] = recover(Edge.STATUS, waits((101, None)), kill("status"))
    assert found is not None
    assert (found.last_s, found.is_over) == (END - 100, False)


def test_a_fault_that_took_no_effect_is_charged_with_nothing_and_excuses_nothing():
    late = waits((101, 160))
    absent, idle = pause("kafka", 100, 150), pause("kafka", 100, 150)
    absent.impossible, idle.evidence = "no process", ""
    found = recover(Edge.STATUS, late, kill("status"), absent, idle)
    assert found[1:] == [None, None]
    assert found[0] == Recovery(1.0, 60.0, 60.0, overdue_s=45.0)


def test_a_fault_of_several_processes_is_bounded_by_its_own_time():
    wipe = InjectedFault("wipe-kafka", 100, 100, False, targets=("kafka",), recover_s=90.0, evidence="it is empty")
    [found] = recover(Edge.SEARCHED, waits((101, 180)), wipe)
    assert found is not None
    assert found.overdue_s == 0.0
    [found] = recover(Edge.SEARCHED, waits((101, 195)), wipe)
    assert found is not None
    assert found.overdue_s == 5.0


def test_a_role_hurts_its_edges():
    assert edges_of(["media"]) == {Edge.MEDIA}
    assert edges_of(["ingest"]) == edges_of(["postgres"]) == set(Edge)
    assert edges_of(["kafka"]) == set(Edge) - {Edge.ACCEPTED}
    assert edges_of(["notification", "search"]) == {Edge.NOTIFIED, Edge.SEARCHED}


def test_a_topic_stands_for_its_readers_and_what_is_unknown_for_everything():
    assert edges_of(["receipt.recorded"]) == edges_of(["status"])
    assert edges_of(["front door"]) == set(Edge)
    assert edges_of(["ws", "gateway"]) == edges_of(["gateway"]) < set(Edge)


def test_every_stage_hurts_an_edge():
    assert all(0 < len(edges_of([stage])) < len(Edge) for stage in stages())


def test_the_load_is_measured_on_steady_screens():
    room = Room(RoomWorkload(), make.ROOM)
    send = Send(at=0, sender="alice", key="k", content="x", mode=SendMode.PLAIN)
    room.sendings.append(Sending(send, [Attempt(1.0, 1.1, None), Attempt(2.0, 2.1, 201, "m", 1)]))
    for kind in (DeviceKind.STEADY, DeviceKind.FLAKY):
        spec = DeviceSpec(user="bob", device="desk", kind=kind)
        room.screens.append(Screen(spec, seqs=array("q", [1, 2]), times=array("d", [5.0, 6.0])))
    history = History("v", 1, rooms=[room])
    history.measurements[Edge.DELIVERED].append(Measurement(3.0, 3.5))
    assert measured(history)[Edge.DELIVERED] == waits((3.0, 3.5), (1.0, 5.0))


def test_times_without_a_fault_leave_out_each_fault_with_its_recovery():
    fault = pause("search", 100, 110)
    taken = waits((90, 90.5), (99, 100.5), (105, 117), (117.5, 118), (130, 130.5))
    recover(Edge.SEARCHED, taken, fault)
    assert list(calm(Edge.SEARCHED, taken, [fault], END)) == waits((90, 90.5), (130, 130.5))
    assert list(calm(Edge.NOTIFIED, taken, [fault], END)) == taken


def test_quantiles_are_times_that_were_measured():
    assert latency([]).count == 0
    found = latency([n / 100 for n in range(1, 201)])
    assert (found.count, found.median_s, found.p99_s, found.most_s) == (200, 1.0, 1.98, 2.0)


def history_of(edge: Edge, taken: Sequence[Measurement], *faults: InjectedFault, mean: float = 1.0) -> History:
    history = History("v", 1, faults=list(faults), quiet_s=1.0, observed_until=END, slowdown=Slowdown(mean, mean))
    history.measurements[edge] += taken
    set_recoveries(history.faults, history.measurements, END, history.slowdown)
    return history


def verdict(history: History) -> list[str]:
    return [violation.text for violation in judge(history, [])]


def test_without_lateness_the_times_are_kept():
    assert verdict(history_of(Edge.DELIVERED, steady(90, 130), kill("gateway"))) == []


def test_lateness_beyond_the_bound_is_a_violation():
    taken = [*steady(80, 99), *waits((101, 129.0))]
    assert verdict(history_of(Edge.DELIVERED, taken, kill("gateway"))) == [
        "kill-gateway: delivered was late until 29.0 s after its end, 14.0 s too long"
    ]


def test_on_a_slow_machine_a_fault_has_more_time_and_beyond_what_is_bearable_nothing_is_judged():
    taken = waits((101, 123.0))
    assert len(verdict(history_of(Edge.DELIVERED, taken, kill("gateway"), mean=BEARABLE))) == 1
    assert verdict(history_of(Edge.DELIVERED, taken, kill("gateway"), mean=3.0)) == []
    slow = [Measurement(n, n + 8.0) for n in range(100)]
    assert len(verdict(history_of(Edge.DELIVERED, slow, mean=BEARABLE))) == 2
    assert verdict(history_of(Edge.DELIVERED, slow, mean=BEARABLE + 0.1)) == []


@pytest.mark.parametrize("edge", Edge)
def test_an_edge_that_is_slow_without_a_fault_is_a_violation(edge):
    rule = RULES[edge]
    assert verdict(history_of(edge, steady(0, 100, taking=rule.median_s - 0.01))) == []
    assert len(verdict(history_of(edge, steady(0, 100, taking=rule.median_s + 0.1)))) == 1
    few = [*steady(0, 100), *steady(100, 102, taking=rule.p99_s + 0.1)]
    assert len(verdict(history_of(edge, few))) == 1
    one = [*steady(0, 100), Measurement(100, 100 + rule.recovery_s + 0.1)]
    assert len(verdict(history_of(edge, one))) == 1


def test_messages_that_wait_for_a_poll_of_two_seconds_are_a_violation():
    polled = [Measurement(n / 10, n / 10 + n % 20 / 10) for n in range(400)]
    assert len(verdict(history_of(Edge.DELIVERED, polled))) == 2


def test_a_message_that_never_reaches_an_edge_is_a_violation_on_any_machine():
    taken = [*steady(0, 100), Measurement(100.0)]
    assert "searched: 1 of 401 messages of the probe have never got there" in verdict(
        history_of(Edge.SEARCHED, taken, mean=BEARABLE + 1)
    )


def test_the_slowdown_is_what_a_process_waits_beside_what_it_runs():
    assert slowdown(Spent(1.0, 5.0), Spent(3.0, 9.0)) == 3.0
    busy = [Spent(float(n), 0.0) for n in range(10)] + [Spent(10.0 + n, 4.0 * (n + 1)) for n in range(10)]
    found = Slowdown.of(busy)
    assert found.mean == pytest.approx(1 + 40 / 19)
    assert found.worst == pytest.approx(5.0)
    assert Slowdown.of([Spent(1.0, 1.0)]) == Slowdown(1.0, 1.0)
