"""Observations beside the message load: what users read over HTTP, what they upload, and what processes do. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Call:
    """A request that was made once, and its answer. Times are of one monotonic clock.

    ``status`` is None when no answer came. ``defect`` says what is wrong with the form of an answer that came whole.
    """

    what: str
    user: str
    began: float
    ended: float
    status: int | None
    code: str = ""
    defect: str = ""
    expected: bool = False
    """The status is one that the client counts on."""


@dataclass(frozen=True, slots=True)
class ShownMessage:
    """A message as a reader was shown it. ``digest`` is that of its content."""

    message_id: str
    conversation_id: str
    seq: int
    sender_id: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """A page of ``GET /conversations/{id}/messages`` with the bounds that were asked for, which are exclusive."""

    call: Call
    conversation_id: str
    after: int | None
    before: int | None
    limit: int
    head: int
    has_more: bool
    messages: tuple[ShownMessage, ...]


@dataclass(frozen=True, slots=True)
class Search:
    """A search for one accepted message by words that only it has."""

    call: Call
    message_id: str
    accepted_at: float
    hits: tuple[ShownMessage, ...]
    is_corrected: bool = False


@dataclass(frozen=True, slots=True)
class WholeSearch:
    """All pages of a search that every message of a conversation matches."""

    call: Call
    conversation_id: str
    hits: tuple[ShownMessage, ...]
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class ListedConversation:
    """A line of ``GET /conversations``."""

    conversation_id: str
    head: int
    unread: int
    read_seq: int
    last_at: str
    last: ShownMessage | None


@dataclass(frozen=True, slots=True)
class ConversationList:
    """The list of a user's conversations. ``total``: unread messages, and conversations that have any."""

    call: Call
    lines: tuple[ListedConversation, ...]
    total: tuple[int, int] | None
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class ListedNotification:
    """An entry of ``GET /notifications``."""

    notification_id: str
    channel: str
    is_seen: bool
    message: ShownMessage


@dataclass(frozen=True, slots=True)
class NotificationWalk:
    """All pages of ``GET /notifications``, from the newest to the oldest entry."""

    user: str
    began: float
    ended: float
    unseen: bool
    entries: tuple[ListedNotification, ...]


@dataclass(frozen=True, slots=True)
class MinuteCounts:
    """The sum of all minutes of ``GET /conversations/{id}/analytics``."""

    call: Call
    conversation_id: str
    messages: int
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class PostedReceipt:
    """A receipt by ``POST``. It may be stored whatever the answer, and is never lost after 204."""

    call: Call
    read_seq: int


@dataclass(frozen=True, slots=True)
class TicketUse:
    """A ticket, and who it connected: at its first use, and again. Empty when it connected nobody."""

    call: Call
    ended: float
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class StrangersPage:
    """Number of messages that a user who is no member was shown."""

    call: Call
    conversation_id: str
    messages: int


@dataclass(slots=True)
class Reads:
    """Answers of a run's readers."""

    pages: list[HistoryPage] = field(default_factory=list)
    searches: list[Search] = field(default_factory=list)
    whole_searches: list[WholeSearch] = field(default_factory=list)
    lists: list[ConversationList] = field(default_factory=list)
    walks: list[NotificationWalk] = field(default_factory=list)
    counts: list[MinuteCounts] = field(default_factory=list)
    tickets: list[TicketUse] = field(default_factory=list)
    strangers: list[StrangersPage] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SentFile:
    """A file to upload. ``picture`` is the digest of what a PNG shows; None for a file of another kind.

    ``secret`` stands in the metadata of a PNG, which only its owner may read.
    """

    name: str
    declared_type: str
    content: bytes = field(repr=False)
    digest: bytes = field(repr=False)
    picture: bytes | None = field(default=None, repr=False)
    secret: bytes = field(default=b"", repr=False)


@dataclass(slots=True)
class Upload:
    """An upload, from its creation to the message that names it. ``offsets``: (asked, answered, bytes that arrived)."""

    owner: str
    conversation_id: str
    file: SentFile
    media_id: str = ""
    offsets: list[tuple[float, float, int]] = field(default_factory=list)
    lost: str = ""
    """Answer that denies the upload, after it was created."""
    message_key: str = ""
    """Key of the message that names it; empty when none was sent."""

    @property
    def is_complete(self) -> bool:
        """The server has answered that all bytes have arrived."""
        return any(offset >= len(self.file.content) for _, _, offset in self.offsets)


@dataclass(frozen=True, slots=True)
class Download:
    """A download of a part of an upload: ``file``, ``original`` or ``thumbnail``.

    ``is_last``: the final try of this user, long after everything is healed.
    """

    call: Call
    media_id: str
    part: str
    media_type: str = ""
    digest: bytes = b""
    picture: bytes | None = None
    has_secret: bool = False
    is_last: bool = False


@dataclass(slots=True)
class Files:
    """Uploads of a run, and their downloads."""

    uploads: list[Upload] = field(default_factory=list)
    downloads: list[Download] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ProcessEnd:
    """The end of a process that nobody had asked the supervisor for. A negative code is a signal."""

    name: str
    at: float
    code: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record in the dead letters of a stage: its origin, its cause, and the bytes that it had there."""

    stage: str
    topic: str
    cause: str
    key: bytes = field(repr=False)
    value: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Traceback:
    """A line of a log that tells of an error which nobody handled: never its content."""

    log: str
    at: str
    mark: str


@dataclass(slots=True)
class Processes:
    """What the processes of the stack did on their own."""

    ends: list[ProcessEnd] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    tracebacks: list[Traceback] = field(default_factory=list)
