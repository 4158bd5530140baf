"""Receipts that an answered call has promised to keep.

Names of devices are the client's to choose, so what a member may owe to Kafka is bounded: a member has as many places
in the outbox of a conversation as devices are kept, and a device always takes the same one.
"""

from __future__ import annotations

import zlib
from typing import Protocol

from msgspec.structs import replace

from schemas.events import ReceiptRecorded
from schemas.ids import NO_DEVICE


class Receipts(Protocol):
    """Receipts in the store, owed to Kafka."""

    async def record(self, receipt: ReceiptRecorded) -> None:
        """Owe the receipt to Kafka, together with what its device owes already; the same receipt is owed again.

        Raises NotFound for those who are no members, Invalid beyond the head, Unavailable.
        """


def place_of(receipt: ReceiptRecorded, devices: int) -> str:
    """Return the place of a device among the ``devices`` places of its member: the part of the outbox's key."""
    return f"{receipt.user_id}/{zlib.crc32(receipt.device.encode()) % devices}"


def fold(receipt: ReceiptRecorded, before: ReceiptRecorded | None, *, pending: bool) -> ReceiptRecorded:
    """Return what is owed at a place for a receipt and the one that it finds there, ``pending`` or published.

    Watermarks only rise, so one receipt stands for both. Of another device only what is pending counts: the receipt is
    of no device then, and no member's watermark is lost.
    """
    if before is None or (before.device != receipt.device and not pending):
        return receipt
    return replace(
        receipt,
        device=receipt.device if before.device == receipt.device else NO_DEVICE,
        delivered_seq=max(receipt.delivered_seq, before.delivered_seq),
        read_seq=max(receipt.read_seq, before.read_seq),
    )
