"""Receipts of clients without a socket."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from domain.errors import Invalid
from domain.receipts import Receipts
from ingest.http.routing import DONE, Answer, Call, Endpoints
from schemas.calls import NewReceipt
from schemas.clock import now
from schemas.events import ReceiptRecorded


@dataclass(frozen=True, slots=True)
class ReceiptEndpoints:
    """Calls about receipts. ``changed`` tells the relay of a conversation's new event."""

    receipts: Receipts
    changed: Callable[[str], None]

    def endpoints(self) -> Endpoints:
        return {"recordReceipt": self.record}

    async def record(self, call: Call[None, NewReceipt]) -> Answer[None]:
        """Store the receipt, so that it cannot be lost. One that is behind what is known changes nothing."""
        body = call.body
        if not (body.delivered_seq or body.read_seq):
            raise Invalid(
                "deliveredSeq or readSeq must be given, from 1", [("$", "must have deliveredSeq or readSeq, from 1")]
            )
        receipt = ReceiptRecorded(
            conversation_id=call.path["id"],
            user_id=call.user,
            delivered_seq=max(body.delivered_seq, body.read_seq),
            read_seq=body.read_seq,
            at=now(),
            device=body.device,
        )
        await self.receipts.record(receipt)
        self.changed(receipt.conversation_id)
        return DONE
