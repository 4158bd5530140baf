"""Rules about uploads and the files of messages (I23)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from verify.final_state import FinalState
from verify.history import History
from verify.observations import Download, Upload
from verify.rules.violation import Violation

_READY = "media_ready"
_PLAIN = "application/octet-stream"


def uploads_are_kept(history: History, states: Sequence[FinalState]) -> Iterator[Violation]:
    """I23: an upload that was created is there until it is complete, its offset never falls, and each that was waited
    for was completed."""
    for upload in history.files.uploads:
        what = f"upload {upload.media_id} of {upload.owner}"
        if upload.lost:
            yield Violation("I23", "lost", f"{what}: {upload.lost}")
        elif not upload.is_complete:
            yield Violation("I23", "wrong", f"{what} could not be completed")
        for began, _, offset in upload.offsets:
            earlier = max((had for _, ended, had in upload.offsets if ended < began), default=0)
            if not earlier <= offset <= len(upload.file.content):
                yield Violation("I23", "lost", f"{what}: {earlier} bytes had arrived, then {offset}")


def files_are_announced(history: History, states: Sequence[FinalState]) -> Iterator[Violation]:
    """I23: each attachment of an accepted message is announced in its conversation, once."""
    entries = {
        state.conversation_id: Counter(entry.message_id for entry in state.entries if entry.kind == _READY)
        for state in states
    }
    kinds = {entry.kind for state in states for entry in state.entries}
    if kinds <= {"message", "other"}:  # the log is seen from outside, where changes are not told apart
        return
    for upload, message_id in _attached(history):
        count = entries.get(upload.conversation_id, Counter())[message_id]
        if count != 1:
            sort = "lost" if count == 0 else "doubled"
            yield Violation("I23", sort, f"upload {upload.media_id} of message {message_id} is announced {count} times")


def members_get_files(history: History, states: Sequence[FinalState]) -> Iterator[Violation]:
    """I23: at the end each member gets each file of a message: the owner as it was uploaded, the others without what a
    camera wrote into it."""
    last = {(d.media_id, d.call.user, d.part): d for d in history.files.downloads if d.is_last}
    members = {room.conversation_id: room.workload.members for room in history.rooms}
    for upload, _ in _attached(history):
        wanted = [(user, "file") for user in members[upload.conversation_id]] + [(upload.owner, "original")]
        if upload.file.picture is not None:
            wanted.append((members[upload.conversation_id][-1], "thumbnail"))
        for user, part in wanted:
            download = last.get((upload.media_id, user, part))
            if download is None or download.call.status != 200:
                status = "no answer" if download is None else f"{download.call.status} {download.call.code}".rstrip()
                text = f"the {part} of upload {upload.media_id} is not there for {user}: {status}"
                yield Violation("I23", "lost", text)


def files_are_right(history: History, states: Sequence[FinalState]) -> Iterator[Violation]:
    """I12 and I23: whenever a file came, it was that file; metadata of a picture reaches its owner only."""
    uploads = {upload.media_id: upload for upload in history.files.uploads}
    for download in history.files.downloads:
        upload = uploads.get(download.media_id)
        if upload is None or download.call.status != 200:
            continue
        what = f"the {download.part} of upload {upload.media_id} for {download.call.user}"
        if download.has_secret and download.call.user != upload.owner:
            yield Violation("I23", "wrong", f"{what} holds the metadata of the picture")
        if download.part == "thumbnail":
            if download.media_type != "image/webp":
                yield Violation("I23", "wrong", f"{what} is {download.media_type}")
        elif not _is_right(download, upload):
            yield Violation("I12", "wrong", f"{what} is another file, of type {download.media_type}")


def _is_right(download: Download, upload: Upload) -> bool:
    """Return True when a download shows what was uploaded, under its type once that is known."""
    if upload.file.picture is None or download.part == "original":
        return download.digest == upload.file.digest
    may_be_unknown = download.call.user == upload.owner and not download.is_last
    kinds = (upload.file.declared_type, _PLAIN) if may_be_unknown else (upload.file.declared_type,)
    return download.picture == upload.file.picture and download.media_type in kinds


def _attached(history: History) -> Iterator[tuple[Upload, str]]:
    """Yield the uploads that an accepted message names, each with the message's id."""
    accepted = {
        sending.send.key: sending.accepted.message_id
        for room in history.rooms
        for sending in room.sendings
        if sending.accepted is not None
    }
    for upload in history.files.uploads:
        if upload.message_key in accepted:
            yield upload, accepted[upload.message_key]
