"""A run that was kept: a small conversation and a large one, seen through sockets, receipts and notifications.

Message n of the small conversation is sent at 10 n seconds, and answered half a second later.
"""

from __future__ import annotations

from array import array
from dataclasses import replace

from millrace_client import NotificationAdded, StatusUpdated

from schemas import frames
from tests import make
from verify.checker import judge
from verify.final_state import (
    DeviceWatermark,
    FinalState,
    LogEntry,
    StoredMessage,
    StoredNotification,
    Watermark,
    digest,
)
from verify.history import Attempt, History, InboxEntry, Room, Screen, Sending, SentReceipt, Stay
from verify.sessions import Session
from verify.workload import DeviceKind, DeviceSpec, RoomWorkload, Send, SendMode

SMALL, LARGE = make.ROOM, "01900000-0000-7000-8000-000000000002"
COUNT, READ = 12, 6
END = 200.0
"""Time when all is at rest."""
OUT_AT, BACK_AT = 55.0, 85.0
AWAY, BACK = 15.0, 95.0
"""End of the first connection of phil's phone, and begin of the second."""


def device(user: str, name: str = "desk", kind: DeviceKind = DeviceKind.STEADY) -> DeviceSpec:
    return DeviceSpec(user=user, device=name, kind=kind)


class KeptRun:
    """alice writes to bob, who is at his desk, to phil, who has a phone, to ida, who follows nothing, to amos, who
    never connects, and to carol, who is removed for a while.

    The large conversation has the same people and sixty more.
    """

    def __init__(self) -> None:
        people, phone = ("alice", "bob", "carol", "phil", "ida", "amos"), device("phil", "phone", DeviceKind.PHONE)
        common = {"owner": "alice", "leaver": "carol", "stranger": "mallory", "idle": ("ida",), "absent": ("amos",)}
        small = RoomWorkload(members=people, devices=(device("bob"), phone), **common)
        others = tuple(f"u{number}" for number in range(60))
        large = RoomWorkload(members=(*people, *others), devices=(phone,), **common)
        self.small, self.large = Room(small, SMALL, refused=1), Room(large, LARGE, refused=1)
        self.history = History("v", 1, rooms=[self.small, self.large], quiet_s=1.0, rested_at=END)
        self.states = [self.send(self.small, COUNT), self.send(self.large, 2)]
        self.screens()
        self.sockets()
        self.notify()

    @property
    def state(self) -> FinalState:
        return self.states[0]

    def send(self, room: Room, count: int) -> FinalState:
        id_, rows = room.conversation_id, list[StoredMessage]()
        for seq in range(1, count + 1):
            name = f"{id_[-1]}-{seq}"
            send = Send(at=0, sender="alice", key=f"k{name}", content=f"n{name}", mode=SendMode.PLAIN)
            room.sendings.append(Sending(send, [Attempt(10 * seq + 0.5, 10 * seq + 0.6, 201, f"m{name}", seq)]))
            status = 1 if room is self.large else 3 if seq <= READ else 2
            rows.append(StoredMessage(f"m{name}", id_, seq, "alice", f"k{name}", digest(f"n{name}"), status))
            shown = make.message(conversation_id=id_, seq=seq, message_id=f"m{name}", content=f"n{name}", status="sent")
            room.frames.by_seq[seq] = frames.new_message(shown)
        entries = [LogEntry(row.seq, "message", row.message_id) for row in rows]
        return FinalState(id_, count, rows, entries, [Watermark("alice", count, count)], [])

    def screens(self) -> None:
        bob, phil = Screen(device("bob")), Screen(device("phil", "phone", DeviceKind.PHONE))
        for screen, seqs in ((bob, range(1, COUNT + 1)), (phil, range(1, COUNT + 1))):
            screen.seqs, screen.times = array("q", seqs), array("d", (10 * seq + 0.2 for seq in seqs))
            screen.asked_at, screen.began_at, screen.joined_at = 1.0, 2.0, 2.0
        bob.receipts = [SentReceipt(10 * seq + 1.0, seq, min(seq, READ)) for seq in range(1, COUNT + 1)]
        phil.receipts = [SentReceipt(14.0, 1, 0), SentReceipt(130.0, COUNT, 0)]
        phil.stays = [Stay(2.0, AWAY), Stay(BACK)]
        before, after = (Screen(device("carol", "parlour")) for _ in range(2))
        before.seqs, before.times = array("q", range(1, 6)), array("d", (10 * seq + 0.2 for seq in range(1, 6)))
        before.removed_at, before.added_again_at, before.until = OUT_AT, BACK_AT, 5
        after.asked, after.asked_at, after.began_at, after.after = None, 85.2, 86.0, 8
        after.seqs, after.times = (
            array("q", range(9, COUNT + 1)),
            array("d", (10 * seq + 0.2 for seq in range(9, COUNT + 1))),
        )
        self.small.screens += [bob, phil, before, after]
        self.state.watermarks += [Watermark("bob", COUNT, READ), Watermark("phil", COUNT, 0)]
        self.state.devices += [DeviceWatermark("bob", "desk", COUNT, READ), DeviceWatermark("phil", "phone", COUNT, 0)]

    def sockets(self) -> None:
        self.desk = Session("alice", "desk", SMALL, 0.0)
        self.desk.statuses = [self.status(seq, min(seq, READ)) for seq in range(1, COUNT + 1)]
        self.idle = Session("ida", "idle", "", 0.0)
        self.parlour = Session("carol", "study", LARGE, 0.0)
        self.parlour.heard[SMALL] = [(50.7, 5), (OUT_AT + 1, 0), (BACK_AT + 6, 9)]
        self.desk.hints, self.idle.hints = {LARGE: 2}, {SMALL: COUNT, LARGE: 2}
        self.history.sessions.all += [self.desk, self.idle, self.parlour]

    def status(self, delivered: int, read: int) -> StatusUpdated:
        return StatusUpdated(
            conversation_id=SMALL,
            seq=delivered,
            user_id="bob",
            status="delivered",
            delivered_seq=delivered,
            read_seq=read,
            at=make.AT,
            message_id=f"m1-{delivered}",
        )

    def notify(self) -> None:
        for user, seqs in (("ida", range(1, COUNT + 1)), ("amos", range(1, COUNT + 1)), ("phil", range(2, 10))):
            for seq in seqs:
                self.add_notification(0, user, seq)
        for user in ("ida", "amos", "phil"):
            self.add_notification(1, user, 1)

    def add_notification(self, room: int, user: str, seq: int) -> StoredNotification:
        state = self.states[room]
        made = StoredNotification(f"n-{user}-{room}-{seq}", user, state.rows[seq - 1].message_id, seq, False)
        state.notifications = [*state.notifications, made]
        entry = InboxEntry(made.notification_id, state.conversation_id, made.message_id)
        self.history.inboxes = {**self.history.inboxes, user: (*self.history.inboxes.get(user, ()), entry)}
        if user == "ida":
            frame = NotificationAdded(
                notification_id=made.notification_id,
                conversation_id=state.conversation_id,
                message_id=made.message_id,
                seq=seq,
                at=make.AT,
            )
            self.idle.notifications.append((10.0 * seq + 6, frame))
        return made

    def forget_notification(self, room: int, user: str, seq: int) -> None:
        """Remove it from the store, and wherever it was shown."""
        state = self.states[room]
        [gone] = (each for each in state.notifications if (each.user_id, each.seq) == (user, seq))
        state.notifications = [each for each in state.notifications if each is not gone]
        inbox = [entry for entry in self.history.inboxes[user] if entry.notification_id != gone.notification_id]
        self.history.inboxes = {**self.history.inboxes, user: inbox}
        self.idle.notifications = [
            (at, frame) for at, frame in self.idle.notifications if frame.notification_id != gone.notification_id
        ]

    def verdict(self) -> set[tuple[str, str]]:
        return {(violation.invariant, violation.sort) for violation in judge(self.history, self.states)}

    def raise_status(self, seq: int, status: int) -> None:
        rows = list(self.state.rows)
        rows[seq - 1] = replace(rows[seq - 1], status=status)
        self.state.rows = rows
