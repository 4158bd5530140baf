"""Drafts, which ingest hands to the store, and the pure rule that gives each one its seq."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeAlias

from domain.conversations import NO_CONVERSATION
from domain.errors import IdempotencyMismatch, Invalid, NotFound, Rejected
from domain.media import Media
from schemas.clock import wire_time
from schemas.messages import Attachment, Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A validated message that is not stored yet. ``body_hash`` covers every field of the client's request."""

    message_id: str
    conversation_id: str
    sender_id: str
    type: str
    content: str
    attachments: tuple[str, ...] = ()
    """Media ids."""
    reply_to: str | None = None
    client_message_id: str | None = None
    body_hash: bytes


@dataclass(frozen=True, slots=True)
class Accepted:
    """Outcome: the message is stored. ``replayed``: it was stored before, under the same idempotency key."""

    message: Message
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Contended:
    """Outcome: not stored, since another transaction holds the conversation. Call again with ``wait``."""


Outcome: TypeAlias = Accepted | Rejected | Contended
Key: TypeAlias = tuple[str, str]
"""Pair (sender, client message id)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchContext:
    """Facts of the store about a batch of drafts, read under the locks of their conversations."""

    heads: Mapping[str, int]
    held: Collection[str]
    """Conversations of the batch that another transaction has locked and of which a sender is a member."""
    counts: Mapping[str, int]
    """Conversation → number of its messages."""
    members: Collection[tuple[str, str]]
    """Pairs (conversation, user)."""
    known: Mapping[Key, tuple[Message, bytes]]
    """Messages that were stored before under a key of the batch, with their body hashes."""
    replied: Mapping[str, str]
    """Message id → conversation, for the messages that drafts reply to."""
    media: Mapping[str, Media]
    """Uploads that drafts attach, by id. None of them is deleted before the batch is stored."""


class Intake(Protocol):
    """Store that turns drafts into messages."""

    async def accept_plain(self, drafts: Sequence[Draft]) -> Sequence[Accepted | None]:
        """Store what needs no further look, in one round trip; None for each draft that ``accept`` must decide.

        The drafts are plain, and no two have the same key. They are stored as by ``accept``, and nobody waits for a
        locked conversation. Raises Unavailable when nothing was stored, OutcomeUnknown when the answer was lost.
        """

    async def accept(self, drafts: Sequence[Draft], *, wait: bool = False) -> Sequence[Outcome]:
        """Store the drafts in one transaction: seq, message, change-log entry and outbox row.

        Returns the outcomes in the drafts' order; a rejected or contended draft does not fail its neighbours. With
        ``wait`` the call waits for locked conversations, about a second, and no draft is contended.
        Raises Unavailable when nothing was stored, OutcomeUnknown when the answer to the commit was lost.
        """


def plain(drafts: Sequence[Draft]) -> list[bool]:
    """Return for each draft whether it names no other message and no file, and is the first with its key."""
    seen, found = set[Key](), list[bool]()
    for draft in drafts:
        key = (draft.sender_id, draft.client_message_id) if draft.client_message_id else None
        found.append(not draft.reply_to and not draft.attachments and key not in seen)
        if key is not None:
            seen.add(key)
    return found


def decide(drafts: Sequence[Draft], context: BatchContext, at: datetime) -> list[Outcome]:
    """Return the outcome of each draft: a replay, contended, a rejection, or a message with the next seq."""
    heads = dict(context.heads)
    known = dict(context.known)
    outcomes: list[Outcome] = []
    for draft in drafts:
        key = (draft.sender_id, draft.client_message_id) if draft.client_message_id else None
        if key is not None and key in known:
            outcomes.append(_replay(draft, *known[key]))
            continue
        if draft.conversation_id in context.held:
            outcomes.append(Contended())
            continue
        refusal = _refusal(draft, context)
        if refusal is not None:
            outcomes.append(refusal)
            continue
        heads[draft.conversation_id] += 1
        files = tuple(context.media[media_id].attachment for media_id in draft.attachments)
        message = new_message(draft, heads[draft.conversation_id], files, at)
        if key is not None:
            known[key] = (message, draft.body_hash)
        outcomes.append(Accepted(message))
    return outcomes


def last_written(new: Sequence[Message], counts: Mapping[str, int]) -> dict[tuple[str, str], tuple[int, int]]:
    """Return (conversation, sender) → the seq of their last new message, and the number of messages up to it.

    ``new``: the messages that a batch stores, those of a conversation in the order of seqs. ``counts``: conversation →
    number of its messages before.
    """
    totals, last = dict(counts), dict[tuple[str, str], tuple[int, int]]()
    for message in new:
        id_ = message.conversation_id
        totals[id_] += 1
        last[id_, message.sender_id] = (message.seq, totals[id_])
    return last


def _replay(draft: Draft, message: Message, body_hash: bytes) -> Outcome:
    if body_hash == draft.body_hash:
        return Accepted(message, replayed=True)
    return IdempotencyMismatch("this clientMessageId was used with other content; make a new one")


def _refusal(draft: Draft, context: BatchContext) -> Rejected | None:
    if (draft.conversation_id, draft.sender_id) not in context.members:
        return NotFound(NO_CONVERSATION)
    if draft.reply_to and context.replied.get(draft.reply_to) != draft.conversation_id:
        return Invalid("replyTo must be a message of this conversation", [("$.replyTo", "must be a message of it")])
    for index, media_id in enumerate(draft.attachments):
        media = context.media.get(media_id)
        if media is None or media.owner_id != draft.sender_id:
            path = f"$.attachments[{index}]"
            return Invalid("attachments must be uploads of the sender", [(path, "must be an upload of the sender")])
    return None


def new_message(draft: Draft, seq: int, attachments: tuple[Attachment, ...], at: datetime) -> Message:
    """Return the message that a draft becomes under this seq."""
    return Message(
        message_id=draft.message_id,
        conversation_id=draft.conversation_id,
        seq=seq,
        sender_id=draft.sender_id,
        type=draft.type,
        content=draft.content,
        attachments=attachments,
        reply_to=draft.reply_to,
        created_at=wire_time(at),
        status="pending",
    )
