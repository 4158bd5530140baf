"""Receipts that an answered call has promised to keep."""

from __future__ import annotations

from typing import Protocol

from schemas.events import ReceiptRecorded


class Receipts(Protocol):
    """Receipts in the store, owed to Kafka."""

    async def record(self, receipt: ReceiptRecorded) -> None:
        """Owe the receipt to Kafka; the same receipt again is owed again.

        Raises NotFound for those who are no members, Invalid beyond the head, Unavailable.
        """
