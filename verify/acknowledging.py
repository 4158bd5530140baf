"""Receipts of devices: those of the client library, and those of a client that repeats all of them.

Receipts of a connection may die with its gateway. The library repeats what the server lacks, as its ``joined`` says;
other clients do not look, and repeat everything on each connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from millrace_client import Joined
from millrace_client.frames import Ack, Read
from millrace_client.sync import ConversationSync

Receipt: TypeAlias = Ack | Read


class Receipts(Protocol):
    """The receipts of a device in a conversation, over all its connections and restarts."""

    def joined(self, frame: Joined) -> None:
        """Take in what the server has stored."""

    def due(self, sync: ConversationSync, *, read: bool) -> Sequence[Receipt]:
        """Return the receipts to send now; with ``read`` the user has read everything that is shown."""


@dataclass(slots=True)
class LibraryReceipts:
    """The receipts that the client library sends. ``read`` survives a restart of the device."""

    read: int = 0

    def joined(self, frame: Joined) -> None:
        """Do nothing: the library has taken it in."""

    def due(self, sync: ConversationSync, *, read: bool) -> Sequence[Receipt]:
        sync.read = max(sync.read, self.read)
        receipts = sync.receipts(read=read)
        self.read = sync.read
        return receipts


@dataclass(slots=True)
class InsistentReceipts:
    """Receipts that are repeated on each connection, whatever the server says that it has."""

    read: int = 0
    _said_delivered: int = 0
    _said_read: int = 0

    def joined(self, frame: Joined) -> None:
        """Forget to have said anything."""
        self._said_delivered = self._said_read = 0

    def due(self, sync: ConversationSync, *, read: bool) -> Sequence[Receipt]:
        if sync.cursor is None or not sync.in_step:
            return ()
        if read:
            self.read = sync.cursor
        due = list[Receipt]()
        if self._said_read < self.read:
            self._said_read = self.read
            self._said_delivered = max(self._said_delivered, self.read)
            due.append(Read(conversation_id=sync.conversation_id, seq=self.read))
        if self._said_delivered < sync.cursor:
            self._said_delivered = sync.cursor
            due.append(Ack(conversation_id=sync.conversation_id, seq=sync.cursor))
        return due
