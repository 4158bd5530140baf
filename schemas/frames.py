"""What the server says on a socket: each frame is encoded once and shared by all who get it."""

from __future__ import annotations

from typing import Any

import orjson

from schemas.events import ConversationChanged, MediaProcessed, MessageSent, MessageStatus, NotificationSent
from schemas.messages import Change, ChangeKind, Message

_MEMBERSHIP = (ChangeKind.MEMBER_ADDED, ChangeKind.MEMBER_REMOVED)


def frame(type_: str, **fields: Any) -> bytes:
    """A frame with these wire-named fields; ``ref`` is left out when it is None."""
    if fields.get("ref", "") is None:
        del fields["ref"]
    return orjson.dumps({"type": type_, **fields})


def of_change(change: Change) -> bytes:
    """The frame of an entry of the change log; the same whether it is live or replayed."""
    if change.kind is ChangeKind.MESSAGE and change.message is not None:
        return new_message(change.message)
    if change.kind in _MEMBERSHIP:
        return _placed("conversation_changed", change, {"change": change.kind.value})
    return _placed(change.kind.value, change)


def _placed(type_: str, entry: Change, more: dict[str, str] | None = None) -> bytes:
    fields = {**(more or {}), **entry.data}
    return frame(type_, conversationId=entry.conversation_id, seq=entry.seq, **fields)


def new_message(message: Message) -> bytes:
    """``new_message``, as replayed from the store and as sent live."""
    return frame("new_message", conversationId=message.conversation_id, seq=message.seq, message=wire(message))


def wire(message: Message) -> dict[str, Any]:
    """The message with its wire names, every field present."""
    return {
        "messageId": message.message_id,
        "conversationId": message.conversation_id,
        "seq": message.seq,
        "senderId": message.sender_id,
        "type": message.type,
        "content": message.content,
        "attachments": message.attachments,
        "replyTo": message.reply_to,
        "createdAt": message.created_at,
        "status": message.status,
    }


def change_of(event: MessageSent | ConversationChanged | MediaProcessed) -> Change | None:
    """The change-log entry that an event announces; None when it has none (a conversation's creation)."""
    if isinstance(event, MessageSent):
        message = event.message
        return Change(
            conversation_id=message.conversation_id,
            seq=message.seq,
            kind=ChangeKind.MESSAGE,
            message=message,
        )
    if isinstance(event, MediaProcessed):
        kind, data = ChangeKind.MEDIA_READY, media_data(event)
    elif event.kind is not None:
        kind, data = event.kind, membership_data(event.user_id, event.by, event.at)
    else:
        return None
    return Change(conversation_id=event.conversation_id, seq=event.seq, kind=kind, data=data)


def membership_data(user_id: str, by: str, at: str) -> dict[str, Any]:
    """``Change.data`` of a membership change."""
    return {"userId": user_id, "by": by, "at": at}


def media_data(event: MediaProcessed) -> dict[str, Any]:
    """``Change.data`` of an attachment that is ready."""
    return {
        "messageId": event.message_id,
        "mediaId": event.media_id,
        "mediaType": event.media_type,
        "width": event.width,
        "height": event.height,
        "thumbnail": event.thumbnail,
        "error": event.error,
        "at": event.at,
    }


def message_status(event: MessageStatus) -> bytes:
    """``message_status``: the watermark of one member; ``messageId`` when it is about just one message."""
    one = {"messageId": event.message_ids[0]} if len(event.message_ids) == 1 else {}
    return frame(
        "message_status",
        conversationId=event.conversation_id,
        seq=event.seq,
        userId=event.user_id,
        status=event.status,
        deliveredSeq=event.delivered_seq,
        readSeq=event.read_seq,
        at=event.at,
        **one,
    )


def notification(event: NotificationSent) -> bytes:
    """``notification``: an in-app notification was stored; its text is fetched over HTTP."""
    return frame(
        "notification",
        notificationId=event.notification_id,
        conversationId=event.conversation_id,
        messageId=event.message_id,
        seq=event.seq,
        at=event.at,
    )
