"""What ingest hands to the store, and the pure rule that gives each draft its seq."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeAlias

from domain.errors import IdempotencyMismatch, Invalid, NotFound, Rejected
from schemas.clock import wire_time
from schemas.messages import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A checked message that is not stored yet. ``body_hash`` covers all that the client said."""

    message_id: str
    conversation_id: str
    sender_id: str
    type: str
    content: str
    attachments: tuple[str, ...] = ()
    reply_to: str | None = None
    client_message_id: str | None = None
    body_hash: bytes


@dataclass(frozen=True, slots=True)
class Accepted:
    """Stored for good. ``replayed``: it was already there under the same idempotency key."""

    message: Message
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Contended:
    """Somebody else holds the conversation just now: not stored. Ask again, and wait for it."""


Outcome: TypeAlias = Accepted | Rejected | Contended
Key: TypeAlias = tuple[str, str]
"""(sender, client message id)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What the store knows about a batch of drafts, read under the locks of their conversations."""

    heads: Mapping[str, int]
    held: Collection[str]
    """Conversations of members among the senders, whose lock somebody else has."""
    members: Collection[tuple[str, str]]
    """(conversation, user)."""
    known: Mapping[Key, tuple[Message, bytes]]
    """Messages stored before under a key of the batch, with their body hashes."""
    replied: Mapping[str, str]
    """Message id → conversation, for those that drafts reply to."""
    media: Mapping[str, str]
    """Media id → owner, for those that drafts attach."""


class Intake(Protocol):
    """Where drafts become messages."""

    async def accept(self, drafts: Sequence[Draft], *, wait: bool = False) -> Sequence[Outcome]:
        """Store the drafts in one transaction: seq, message, change-log entry and outbox row.

        The outcomes are in the drafts' order; one that is rejected or contended does not fail its neighbours. With
        ``wait`` none is contended: it waits for the conversations, about a second.
        Raises Unavailable when nothing was stored, OutcomeUnknown when the commit's answer was lost.
        """


def decide(drafts: Sequence[Draft], ground: Ground, at: datetime) -> list[Outcome]:
    """The outcome of each draft: a replay, contended, a rejection, or a message with its conversation's next seq."""
    heads = dict(ground.heads)
    known = dict(ground.known)
    outcomes: list[Outcome] = []
    for draft in drafts:
        key = (draft.sender_id, draft.client_message_id) if draft.client_message_id else None
        if key is not None and key in known:
            outcomes.append(_replay(draft, *known[key]))
            continue
        if draft.conversation_id in ground.held:
            outcomes.append(Contended())
            continue
        refusal = _refusal(draft, ground)
        if refusal is not None:
            outcomes.append(refusal)
            continue
        heads[draft.conversation_id] += 1
        message = _message(draft, heads[draft.conversation_id], at)
        if key is not None:
            known[key] = (message, draft.body_hash)
        outcomes.append(Accepted(message))
    return outcomes


def _replay(draft: Draft, message: Message, body_hash: bytes) -> Outcome:
    if body_hash == draft.body_hash:
        return Accepted(message, replayed=True)
    return IdempotencyMismatch("this clientMessageId was used with other content; make a new one")


def _refusal(draft: Draft, ground: Ground) -> Rejected | None:
    if (draft.conversation_id, draft.sender_id) not in ground.members:
        return NotFound("no such conversation, or you are not a member of it")
    if draft.reply_to and ground.replied.get(draft.reply_to) != draft.conversation_id:
        return Invalid("replyTo is no message of this conversation", [("$.replyTo", "unknown message")])
    for index, media_id in enumerate(draft.attachments):
        if ground.media.get(media_id) != draft.sender_id:
            path = f"$.attachments[{index}]"
            return Invalid("an attachment is no upload of yours", [(path, "unknown media")])
    return None


def _message(draft: Draft, seq: int, at: datetime) -> Message:
    return Message(
        message_id=draft.message_id,
        conversation_id=draft.conversation_id,
        seq=seq,
        sender_id=draft.sender_id,
        type=draft.type,
        content=draft.content,
        attachments=draft.attachments,
        reply_to=draft.reply_to,
        created_at=wire_time(at),
        status="pending",
    )
