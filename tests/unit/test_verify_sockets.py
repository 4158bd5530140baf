"""The rules about what sockets carry beside content: a run that was kept is found kept, and each damage is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from tests.kept_run import AWAY, BACK_AT, COUNT, END, LARGE, OUT_AT, READ, SMALL, KeptRun
from verify.checker import judge
from verify.final_state import DeviceWatermark, StoredNotification
from verify.history import InboxEntry, InjectedFault, SentReceipt
from verify.rules.disturbance import WAKE_S
from verify.rules.joins import ON_ITS_WAY_S, REMOVED_LATE_S, REMOVED_S
from verify.rules.notifications import NOTIFIED_S, PROMPT_S
from verify.sessions import Session
from verify.slowdown import Slowdown


def test_a_run_that_was_kept():
    run = KeptRun()
    assert judge(run.history, run.states) == []


# watermarks and statuses on sockets


def tell_no_status(run: KeptRun) -> None:
    run.desk.statuses = []


def tell_the_last_status_to_nobody(run: KeptRun) -> None:
    run.desk.statuses.pop()


def tell_the_own_status(run: KeptRun) -> None:
    run.desk.statuses = [msgspec.structs.replace(frame, user_id="alice") for frame in run.desk.statuses]


def claim_to_be_read(run: KeptRun) -> None:
    run.desk.statuses.append(run.status(COUNT, COUNT))


def let_a_watermark_fall(run: KeptRun) -> None:
    run.desk.statuses.append(run.status(COUNT, READ - 1))


def let_a_status_fall(run: KeptRun) -> None:
    frame = run.desk.statuses[-1]
    run.desk.statuses += [msgspec.structs.replace(frame, status=status) for status in ("read", "delivered")]


def speak_of_no_member(run: KeptRun) -> None:
    run.desk.statuses.append(msgspec.structs.replace(run.status(1, 0), user_id="mallory"))


# receipts


def lose_a_receipt(run: KeptRun) -> None:
    run.state.devices[0] = DeviceWatermark("bob", "desk", COUNT - 1, READ)


def lose_a_read_receipt(run: KeptRun) -> None:
    run.state.devices[0] = DeviceWatermark("bob", "desk", COUNT, READ - 1)


def lose_a_device(run: KeptRun) -> None:
    del run.state.devices[0]


def believe_more_than_was_said(run: KeptRun) -> None:
    run.small.screens[1].receipts[-1:] = [SentReceipt(130.0, COUNT - 1, 0)]


# joins, hints, removals


def begin_too_late(run: KeptRun) -> None:
    for screen in run.small.screens[:2]:
        screen.after = 1
        del screen.seqs[0], screen.times[0]


def come_back_too_late(run: KeptRun) -> None:
    back = run.small.screens[3]
    back.after = 9
    del back.seqs[0], back.times[0]


def come_back_too_early(run: KeptRun) -> None:
    back = run.small.screens[3]
    back.after = 7
    back.seqs.insert(0, 8)
    back.times.insert(0, 80.2)


def hold_the_last_hint_back(run: KeptRun) -> None:
    run.idle.hints[LARGE] = 1


def give_no_hints(run: KeptRun) -> None:
    run.idle.hints = {}


def show_the_removed(run: KeptRun) -> None:
    run.small.screens[2].seqs.append(6)
    run.small.screens[2].times.append(60.7)


def hint_to_the_removed(run: KeptRun) -> None:
    run.parlour.heard[SMALL] = [(60.7, 6)]


def notify_the_removed_of_what_is_not_content(run: KeptRun) -> None:
    run.parlour.heard[SMALL] = [(OUT_AT + REMOVED_S + ON_ITS_WAY_S + 1, 0)]


# notifications


def notify_nobody(run: KeptRun) -> None:
    for state in run.states:
        state.notifications = []
    run.history.inboxes, run.idle.notifications = {}, []


def forget_one(run: KeptRun) -> None:
    run.forget_notification(0, "amos", 7)


def forget_one_of_who_is_idle(run: KeptRun) -> None:
    run.forget_notification(0, "ida", COUNT)


def forget_one_of_who_came_back(run: KeptRun) -> None:
    run.forget_notification(0, "phil", 7)


def forget_the_large_room(run: KeptRun) -> None:
    run.forget_notification(1, "amos", 1)


def notify_twice(run: KeptRun) -> None:
    twin = replace(run.state.notifications[0], notification_id="n-other")
    run.state.notifications = [*run.state.notifications, twin]


def notify_of_each_in_the_large_room(run: KeptRun) -> None:
    run.add_notification(1, "amos", 2)


def notify_who_is_there(run: KeptRun) -> None:
    run.add_notification(0, "bob", 7)


def notify_the_sender(run: KeptRun) -> None:
    run.add_notification(0, "alice", 7)


def notify_a_stranger(run: KeptRun) -> None:
    run.add_notification(0, "mallory", 7)


def notify_of_nothing(run: KeptRun) -> None:
    made = StoredNotification("n-none", "bob", "m-none", 7, False)
    run.state.notifications = [*run.state.notifications, made]


def hide_one(run: KeptRun) -> None:
    run.history.inboxes = {**run.history.inboxes, "amos": run.history.inboxes["amos"][1:]}


def show_one_twice(run: KeptRun) -> None:
    inbox = run.history.inboxes["amos"]
    run.history.inboxes = {**run.history.inboxes, "amos": (*inbox, inbox[0])}


def show_one_of_another(run: KeptRun) -> None:
    inbox = run.history.inboxes["amos"]
    run.history.inboxes = {**run.history.inboxes, "amos": (*inbox, InboxEntry("n-phil-0-7", SMALL, "m1-7"))}


def announce_twice(run: KeptRun) -> None:
    run.idle.notifications.append(run.idle.notifications[0])


def announce_to_another(run: KeptRun) -> None:
    run.desk.notifications.append(run.idle.notifications[0])


def announce_what_is_not_stored(run: KeptRun) -> None:
    at, frame = run.idle.notifications[0]
    run.idle.notifications.append((at, msgspec.structs.replace(frame, notification_id="n-none")))


def announce_another_message(run: KeptRun) -> None:
    at, frame = run.idle.notifications[0]
    run.idle.notifications[0] = (at, msgspec.structs.replace(frame, message_id="m-other"))


def announce_nothing(run: KeptRun) -> None:
    run.idle.notifications = []


DAMAGES: list[tuple[Callable[[KeptRun], None], set[tuple[str, str]]]] = [
    (tell_no_status, {("I8", "wrong")}),
    (tell_the_last_status_to_nobody, {("I8", "wrong")}),
    (tell_the_own_status, {("I8", "wrong")}),
    (claim_to_be_read, {("I8", "wrong"), ("I13", "wrong")}),
    (let_a_watermark_fall, {("I13", "wrong")}),
    (let_a_status_fall, {("I8", "wrong")}),
    (speak_of_no_member, {("I13", "wrong")}),
    (lose_a_receipt, {("I13", "wrong")}),
    (lose_a_read_receipt, {("I13", "wrong")}),
    (lose_a_device, {("I13", "wrong")}),
    (believe_more_than_was_said, {("I13", "wrong")}),
    (begin_too_late, {("I10", "lost")}),
    (come_back_too_late, {("I10", "lost")}),
    (come_back_too_early, {("I10", "wrong")}),
    (hold_the_last_hint_back, {("I10", "wrong")}),
    (give_no_hints, {("I10", "wrong")}),
    (show_the_removed, {("I11", "wrong")}),
    (hint_to_the_removed, {("I11", "wrong")}),
    (notify_the_removed_of_what_is_not_content, {("I11", "wrong")}),
    (notify_nobody, {("I7", "wrong")}),
    (forget_one, {("I7", "wrong")}),
    (forget_one_of_who_is_idle, {("I7", "wrong")}),
    (forget_one_of_who_came_back, {("I7", "wrong")}),
    (forget_the_large_room, {("I7", "wrong")}),
    (notify_twice, {("I7", "doubled"), ("I7", "wrong")}),
    (notify_of_each_in_the_large_room, {("I7", "wrong")}),
    (notify_who_is_there, {("I7", "wrong")}),
    (notify_the_sender, {("I7", "wrong")}),
    (notify_a_stranger, {("I7", "wrong")}),
    (notify_of_nothing, {("I7", "wrong")}),
    (hide_one, {("I7", "wrong")}),
    (show_one_twice, {("I7", "doubled")}),
    (show_one_of_another, {("I7", "wrong")}),
    (announce_twice, {("I7", "doubled")}),
    (announce_to_another, {("I7", "wrong")}),
    (announce_what_is_not_stored, {("I7", "wrong")}),
    (announce_another_message, {("I7", "wrong")}),
    (announce_nothing, {("I7", "wrong")}),
]


@pytest.mark.parametrize(("damage", "found"), DAMAGES, ids=lambda value: getattr(value, "__name__", ""))
def test_each_damage_is_found(damage, found):
    run = KeptRun()
    damage(run)
    assert run.verdict() == found


# faults excuse what died with them, and nothing else


def fault(name: str, role: str, began: float = 50.0, healed: float = 60.0) -> InjectedFault:
    return InjectedFault(name, began, healed, True, targets=(role,), evidence="ended")


EXCUSED: list[tuple[Callable[[KeptRun], None], str, float]] = [
    (tell_the_last_status_to_nobody, "valkey", 125.0),
    (hold_the_last_hint_back, "gateway", 75.0),
    (announce_nothing, "valkey", 75.0),
    (announce_twice, "notification", 16.0),
    (forget_one_of_who_came_back, "notification", 75.0),
    (notify_who_is_there, "kafka", 75.0),
    (show_the_removed, "valkey", OUT_AT),
    (hint_to_the_removed, "gateway", OUT_AT),
]
"""Damages, with the role whose fault excuses each, and when."""


@pytest.mark.parametrize(("damage", "role", "at"), EXCUSED, ids=lambda value: getattr(value, "__name__", value))
def test_a_fault_of_a_role_that_matters_excuses_it(damage, role, at):
    run = KeptRun()
    damage(run)
    for excuse in (fault("kill", role, at, at), fault("kill", role, at - WAKE_S, at - WAKE_S / 2)):
        run.history.faults = [excuse]
        assert run.verdict() == set()


@pytest.mark.parametrize(("damage", "role", "at"), EXCUSED, ids=lambda value: getattr(value, "__name__", value))
def test_no_other_fault_excuses_it(damage, role, at):
    run = KeptRun()
    damage(run)
    found = run.verdict()
    for excuse in (
        fault("hostile-uploads", "front door", at, at),
        fault("poison-message.created", "message.created", at, at),
        replace(fault("kill", role, at, at), impossible="there is none"),
        replace(fault("kill", role, at, at), evidence=""),
        fault("kill", role, -2 * WAKE_S, -2 * WAKE_S),
    ):
        run.history.faults = [excuse]
        assert run.verdict() == found


@pytest.mark.parametrize("damage", [tell_no_status, forget_one, lose_a_receipt, let_a_watermark_fall, notify_twice])
def test_no_fault_excuses_what_the_store_must_make_good(damage):
    run = KeptRun()
    damage(run)
    run.history.faults = [fault("kill-media", "media"), fault("kill-postgres", "postgres"), fault("x", "kafka")]
    assert run.verdict()


def test_without_redis_a_removal_takes_effect_later_and_not_never():
    run = KeptRun()
    run.history.faults = [fault("kill-valkey", "valkey", OUT_AT - 1, OUT_AT + 20)]
    screen = run.small.screens[2]
    screen.added_again_at, run.parlour.heard = None, {}
    screen.times[-1] = OUT_AT + REMOVED_LATE_S + ON_ITS_WAY_S
    assert run.verdict() == set()
    screen.times[-1] += 1
    assert run.verdict() == {("I11", "wrong")}
    run.parlour.heard[SMALL] = [(80.7, 8)]
    screen.times[-1] = 50.7
    assert run.verdict() == set()
    run.parlour.heard[SMALL] = [(90.7, 9)]
    assert run.verdict() == {("I11", "wrong")}


def test_what_an_unknown_part_does_is_not_blamed_on_the_stack():
    run = KeptRun()
    tell_the_last_status_to_nobody(run)
    run.history.faults = [fault("hole-clients", "client link", END - 1, END)]
    assert run.verdict() == set()


# limits of what is judged


def test_only_sockets_that_were_open_from_before_a_message_to_the_end_must_tell_of_it():
    for began, ended in ((10.0 * COUNT + 1, float("inf")), (0.0, END - 1)):
        run = KeptRun()
        run.history.sessions.all.append(Session("alice", "pocket", SMALL, began, ended))
        run.history.sessions.all.append(Session("ida", "idle", "", began, ended))
        assert run.verdict() == set()


def test_what_was_missed_while_away_counts_when_nobody_came_back_within_the_bound():
    run = KeptRun()
    run.small.screens[1].stays[1].began = 70.5 + NOTIFIED_S - 0.1
    run.forget_notification(0, "phil", 7)
    assert run.verdict() == set()


def test_on_a_slow_machine_it_takes_longer_and_is_not_judged_on_a_very_slow_one():
    run = KeptRun()
    forget_one_of_who_came_back(run)
    for slowdown in (Slowdown(1.5, 3.0), Slowdown(9.0, 9.0)):
        run.history.slowdown = slowdown
        assert run.verdict() == set()
    run.history.slowdown = Slowdown(1.1, 1.2)
    assert run.verdict() == {("I7", "wrong")}


def test_who_acknowledges_late_may_be_notified():
    run = KeptRun()
    run.small.screens[0].receipts[6:7] = [SentReceipt(70.0 + PROMPT_S + 1, 7, 6)]
    notify_who_is_there(run)
    assert run.verdict() == set()


def test_the_last_words_of_a_phone_that_has_gone_need_not_be_stored_before_it_could_repeat_them():
    run = KeptRun()
    phone = run.small.screens[1]
    phone.until, phone.has_left, phone.joined_at = COUNT, True, 96.0
    run.state.devices[1] = DeviceWatermark("phil", "phone", 1, 0)
    assert ("I13", "wrong") not in run.verdict()
    phone.joined_at = 131.0
    assert ("I13", "wrong") in run.verdict()


def test_where_devices_cannot_be_seen_their_member_is_judged():
    run = KeptRun()
    run.state.devices = None
    assert run.verdict() == set()
    run.state.watermarks[1] = replace(run.state.watermarks[1], read_seq=READ - 1)
    assert ("I13", "wrong") in run.verdict()


def test_the_times_of_the_kept_run_leave_something_to_judge():
    assert AWAY < 20 < OUT_AT < BACK_AT < 10 * COUNT < END
