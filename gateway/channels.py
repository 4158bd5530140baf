"""Redis channels and what they carry. One function for each name, so that user text never becomes one.

* ``conversation:{id}:messages``  ``<seq> <frame>``: content changes; checked by seq, so loss is harmless
* ``conversation:{id}:events``    ``<userId> <frame>``: typing and presence of that user
* ``user:{id}:messages``          ``<conversationId or -> <frame>``: hints for sockets that have not joined it, or all
* ``user:{id}:notifications``     ``- <frame>``
* ``node:{id}``                   what an operator asks of a node: see ``gateway.control``
* ``revocations``                 empty: look for new ones in the store
"""

from __future__ import annotations

from domain.revocations import CHANNEL as REVOCATIONS

__all__ = [
    "EVERY_SOCKET",
    "REVOCATIONS",
    "envelope",
    "events",
    "messages",
    "opened",
    "parsed",
    "user_messages",
    "user_notifications",
]

EVERY_SOCKET = "-"


def messages(conversation_id: str) -> str:
    return f"conversation:{conversation_id}:messages"


def events(conversation_id: str) -> str:
    return f"conversation:{conversation_id}:events"


def user_messages(user_id: str) -> str:
    return f"user:{user_id}:messages"


def user_notifications(user_id: str) -> str:
    return f"user:{user_id}:notifications"


def envelope(about: str | int, frame: bytes) -> bytes:
    """A frame behind what a node must know to pass it on without parsing it."""
    return f"{about} ".encode() + frame


def opened(data: bytes) -> tuple[str, bytes]:
    """The two parts of an envelope. Raises ValueError for what is none."""
    about, _, frame = data.partition(b" ")
    if not frame.startswith(b"{"):
        raise ValueError("no frame")
    return about.decode(), frame


def parsed(channel: str) -> tuple[str, str, str]:
    """(kind, id, topic) of a channel's name. A user id may hold colons, a topic does not."""
    kind, _, rest = channel.partition(":")
    id_, _, topic = rest.rpartition(":")
    return kind, id_, topic
