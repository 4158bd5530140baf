"""Recovery of a store from the log: what the log holds behind its noted ends and the store lacks is put back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeAlias

from msgspec.structs import replace

from domain.audit import Begins
from domain.event_log import LogReader
from domain.log_position import Position
from domain.recovery import Recovery, Restored
from schemas.clock import wire_time
from schemas.codec import EPOCH, Malformed, decode
from schemas.events import (
    AnyEvent,
    ConversationChanged,
    MediaProcessed,
    MediaUploaded,
    MessageCreated,
    ReceiptRecorded,
)

ENTRIES = (MessageCreated.TOPIC, ConversationChanged.TOPIC)
OTHERS = (MediaProcessed.TOPIC, MediaUploaded.TOPIC, ReceiptRecorded.TOPIC)
Place: TypeAlias = tuple[str, int]
"""(topic, partition)."""
_OURS = b"millrace/"
MARGIN = timedelta(minutes=15)
"""Time before the first lost event from which everything else is looked at, or done again."""


class Log(LogReader, Protocol):
    """Reader of the log that knows where its partitions begin."""

    async def begins(self, topics: Collection[str], since_ms: int) -> Begins:
        """Return the offsets at which to read the records of each partition since then. Raises Unavailable."""


@dataclass(slots=True)
class Survey:
    """Events that the log holds and the store lacks."""

    position: Position
    trimmed: int = 0
    """Records behind the noted ends that the log has deleted by age."""
    records: int = 0
    unreadable: int = 0
    conversations: Sequence[str] = ()
    span: tuple[datetime, datetime] | None = None
    """Times of the first and the last event that the store lacks; None when it lacks nothing."""
    epochs: set[str] = field(default_factory=set)
    receipts: dict[tuple[str, str, str], ReceiptRecorded] = field(default_factory=dict)
    """(conversation, user, device) → the furthest."""


@dataclass(slots=True)
class Outcome:
    """Entries that came back, in all and by conversation."""

    total: Restored = field(default_factory=Restored)
    by_conversation: dict[str, Restored] = field(default_factory=dict)
    uploads: int = 0
    receipts: int = 0
    republished: int = 0


async def survey(store: Recovery, log: Log, position: Position) -> Survey:
    """Read the log, and let the store keep what it lacks. Raises Unavailable."""
    found = Survey(position)
    noted = await store.noted()
    ends = noted[1] if noted is not None and noted[0] == position.cluster_id else {}
    starts = await _starts(log, ENTRIES, 0)
    found.trimmed = sum(max(0, start - ends.get(_name(place), start)) for place, start in starts.items())
    begins = {place: max(start, ends.get(_name(place), 0)) for place, start in starts.items()}
    async for events in _read(log, begins, found):
        await store.keep([event for event in events if isinstance(event, MessageCreated | ConversationChanged)])
    found.span = await store.span()
    if found.span is None:
        return found
    since = found.span[0] - MARGIN
    async for events in _read(log, await _starts(log, OTHERS, int(since.timestamp() * 1000)), found):
        await store.keep([event for event in events if isinstance(event, MediaProcessed | MediaUploaded)])
        for event in events:
            if isinstance(event, ReceiptRecorded):
                _note_receipt(found, event)
    found.conversations = await store.lacking()
    return found


async def recover(store: Recovery, found: Survey, *, dry_run: bool = False) -> Outcome:
    """Put back what the store has kept; with ``dry_run`` only count. Raises Unavailable: then run it again."""
    outcome = Outcome()
    for conversation_id in found.conversations:
        restored = await store.put_back(conversation_id, dry_run=dry_run)
        if restored != Restored():
            outcome.by_conversation[conversation_id] = restored
            outcome.total += restored
    outcome.uploads = await store.put_back_uploads(dry_run=dry_run)
    if dry_run:
        outcome.receipts = len(found.receipts)
        return outcome
    for receipt in found.receipts.values():
        outcome.receipts += await store.record(receipt)
    if found.span is not None:
        outcome.republished = await store.republish(found.span[0] - MARGIN)
    await store.note(found.position, sorted(found.epochs), found.span[0] if found.span is not None else None)
    return outcome


def report(found: Survey, outcome: Outcome) -> dict[str, Any]:
    """Return what came back and what is gone, for JSON."""
    numbers = asdict(outcome.total)
    gone = {"entries": numbers.pop("lost"), "events": numbers.pop("gone"), "trimmed": found.trimmed}
    return {
        "records": found.records,
        "unreadable": found.unreadable,
        "first": None if found.span is None else wire_time(found.span[0]),
        "last": None if found.span is None else wire_time(found.span[1]),
        "conversations": len(outcome.by_conversation),
        **numbers,
        "uploads": outcome.uploads,
        "receipts": outcome.receipts,
        "gone": gone,
        "byConversation": [{"conversationId": id_, **asdict(each)} for id_, each in outcome.by_conversation.items()],
    }


async def _starts(log: Log, topics: Sequence[str], since_ms: int) -> dict[Place, int]:
    begins = await log.begins(topics, since_ms)
    return {(topic, number): begin.offset for topic in topics for number, begin in enumerate(begins.topics[topic])}


async def _read(log: Log, begins: Mapping[Place, int], found: Survey) -> AsyncIterator[list[AnyEvent]]:
    """Yield what processes of Millrace have written, from these places on; note the epochs that it names."""
    async for records in log.read(begins):
        events: list[AnyEvent] = []
        for record in records:
            headers = dict(record.headers)
            if not headers.get("ce_source", b"").startswith(_OURS):
                continue
            found.records += 1
            if EPOCH in headers:
                found.epochs.add(headers[EPOCH].decode(errors="replace"))
            try:
                events.append(decode(record.topic, record.key, record.value))
            except Malformed:
                found.unreadable += 1
        yield events


def _note_receipt(found: Survey, receipt: ReceiptRecorded) -> None:
    key = (receipt.conversation_id, receipt.user_id, receipt.device)
    before = found.receipts.get(key, receipt)
    found.receipts[key] = replace(
        receipt,
        delivered_seq=max(receipt.delivered_seq, before.delivered_seq),
        read_seq=max(receipt.read_seq, before.read_seq),
    )


def _name(place: Place) -> str:
    return f"{place[0]}/{place[1]}"
