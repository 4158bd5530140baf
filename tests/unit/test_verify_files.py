"""Uploads and the files of messages: what was kept is found kept, and every way to break it is found."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests import make
from verify.checker import READ
from verify.final_state import FinalState, LogEntry
from verify.history import Attempt, History, Room, Sending
from verify.observations import Call, Download, Upload
from verify.sent_files import picture, shown_by, text
from verify.workload import RoomWorkload, Send, SendMode

MEMBERS = ("alice", "bob", "carol")


class KeptFiles:
    """A picture (message 1) and a text (message 3) by alice, which all members have read at the end."""

    def __init__(self) -> None:
        chance = random.Random(1)
        workload = RoomWorkload(owner="alice", members=MEMBERS, leaver="carol", stranger="mallory")
        self.room, self.history = Room(workload, make.ROOM), History("v", 1)
        self.history.rooms.append(self.room)
        for number, sent in enumerate((picture(chance, "p"), text(chance, "t"))):
            size = len(sent.content)
            offsets = [(1.0, 1.1, size // 2), (1.2, 1.3, size // 2), (1.4, 1.5, size)]
            upload = Upload("alice", make.ROOM, sent, f"f{number}", offsets, message_key=f"k{number}")
            self.history.files.uploads.append(upload)
            send = Send(at=0, sender="alice", key=f"k{number}", content="x", mode=SendMode.PLAIN)
            self.room.sendings.append(Sending(send, [Attempt(2, 3, 201, f"m{number}", 2 * number + 1)]))
            for user in MEMBERS:
                kind = sent.declared_type if number == 0 else "application/octet-stream"
                self.read(upload, user, "file", kind)
            self.read(upload, "alice", "original", "application/octet-stream")
        self.read(self.history.files.uploads[0], "carol", "thumbnail", "image/webp")
        entries = [LogEntry(n, "message" if n % 2 else "media_ready", f"m{(n - 1) // 2}") for n in range(1, 5)]
        self.state = FinalState(make.ROOM, 4, (), entries)

    def read(self, upload: Upload, user: str, part: str, kind: str) -> None:
        call, sent = Call("download", user, 9, 9.1, 200, expected=True), upload.file
        came = Download(call, upload.media_id, part, kind, sent.digest, sent.picture, is_last=True)
        self.history.files.downloads.append(came)

    def change(self, user: str, part: str, **changes: object) -> None:
        """Change the download of the picture by this user."""
        downloads = self.history.files.downloads
        [index] = [n for n, d in enumerate(downloads) if (d.media_id, d.call.user, d.part) == ("f0", user, part)]
        downloads[index] = replace(downloads[index], **changes)

    def verdict(self) -> list[tuple[str, str]]:
        found = [violation for rule in READ for violation in rule(self.history, [self.state])]
        return sorted({(violation.invariant, violation.sort) for violation in found})


def test_files_that_were_kept():
    assert KeptFiles().verdict() == []


def lose_an_upload(h: KeptFiles) -> None:
    h.history.files.uploads[0].lost = "upload offset was answered 404"


def never_complete_it(h: KeptFiles) -> None:
    h.history.files.uploads[0].offsets.pop()


def let_an_offset_fall(h: KeptFiles) -> None:
    h.history.files.uploads[0].offsets[1] = (1.2, 1.3, 0)


def claim_too_many_bytes(h: KeptFiles) -> None:
    h.history.files.uploads[0].offsets[2] = (1.4, 1.5, 10**9)


def never_announce_it(h: KeptFiles) -> None:
    h.state.entries = [entry for entry in h.state.entries if entry.seq != 2]


def announce_it_twice(h: KeptFiles) -> None:
    h.state.entries = [*h.state.entries, LogEntry(5, "media_ready", "m0")]


def keep_it_from_a_member(h: KeptFiles) -> None:
    h.change("bob", "file", call=Call("download", "bob", 9, 9.1, 409, "media_not_ready", expected=True))


def have_no_thumbnail(h: KeptFiles) -> None:
    h.history.files.downloads.pop()


def serve_another_file(h: KeptFiles) -> None:
    h.change("bob", "file", digest=b"x", picture=b"x")


def alter_the_original(h: KeptFiles) -> None:
    h.change("alice", "original", digest=b"x")


def serve_it_without_its_type(h: KeptFiles) -> None:
    h.change("bob", "file", media_type="application/octet-stream")


def show_where_it_was_taken(h: KeptFiles) -> None:
    h.change("bob", "file", has_secret=True)


def serve_no_thumbnail(h: KeptFiles) -> None:
    h.change("carol", "thumbnail", media_type="image/png")


BREAKS: list[tuple[Callable[[KeptFiles], None], str, str]] = [
    (lose_an_upload, "I23", "lost"),
    (never_complete_it, "I23", "wrong"),
    (let_an_offset_fall, "I23", "lost"),
    (claim_too_many_bytes, "I23", "lost"),
    (never_announce_it, "I23", "lost"),
    (announce_it_twice, "I23", "doubled"),
    (keep_it_from_a_member, "I23", "lost"),
    (have_no_thumbnail, "I23", "lost"),
    (serve_another_file, "I12", "wrong"),
    (alter_the_original, "I12", "wrong"),
    (serve_it_without_its_type, "I12", "wrong"),
    (show_where_it_was_taken, "I23", "wrong"),
    (serve_no_thumbnail, "I23", "wrong"),
]


@pytest.mark.parametrize(("damage", "invariant", "sort"), BREAKS, ids=lambda value: getattr(value, "__name__", ""))
def test_each_way_to_break_a_file_is_found(damage, invariant, sort):
    history = KeptFiles()
    damage(history)
    assert (invariant, sort) in history.verdict()


def test_a_file_whose_message_was_not_accepted_is_owed_to_nobody():
    history = KeptFiles()
    history.history.files.downloads.clear()
    for sending in history.room.sendings:
        sending.attempts = [Attempt(2, 3, None)]
    history.state.entries = [LogEntry(1, "member_added", None)]
    assert history.verdict() == []


def test_what_a_picture_shows_does_not_depend_on_its_metadata():
    sent = picture(random.Random(1), "p")
    start = sent.content.index(b"tEXt") - 4
    stripped = sent.content[:start] + sent.content[sent.content.index(b"IDAT") - 4 :]
    assert sent.secret in sent.content
    assert sent.secret not in stripped
    assert shown_by(stripped) == sent.picture != picture(random.Random(2), "p").picture
    assert shown_by(b"no picture") is shown_by(sent.content[:60]) is None
