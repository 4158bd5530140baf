"""``POST /conversations/{id}/receipts``: how far a device has got, for clients without a socket."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from adapters.postgres.receipts import PostgresReceipts
from domain.errors import Invalid
from ingest.http.auth import Edge, json_body
from ingest.http.validation import parse
from schemas.clock import now
from schemas.events import ReceiptRecorded
from schemas.ids import NO_DEVICE

Seq = Annotated[int, Meta(ge=0, le=2**53)]
Device = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:-]{1,64}\Z")]


class Receipt(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The body: at least one of the two seqs."""

    delivered_seq: Seq = 0
    read_seq: Seq = 0
    device: Device = NO_DEVICE


@dataclass(frozen=True, slots=True)
class ReceiptCalls:
    """Calls about receipts. ``changed`` tells the relay of a conversation's new event."""

    edge: Edge
    receipts: PostgresReceipts
    changed: Callable[[str], None]

    def routes(self) -> list[Route]:
        return [Route("/conversations/{id}/receipts", self.post, methods=["POST"])]

    async def post(self, request: Request) -> Response:
        """204: the receipt is stored and cannot be lost. One that is behind what is known changes nothing."""
        user = await self.edge.caller(request)
        body = parse(Receipt, await json_body(request))
        if not (body.delivered_seq or body.read_seq):
            raise Invalid("give deliveredSeq or readSeq, from 1", [("$", "no seq")])
        receipt = ReceiptRecorded(
            conversation_id=request.path_params["id"],
            user_id=user,
            delivered_seq=max(body.delivered_seq, body.read_seq),
            read_seq=body.read_seq,
            at=now(),
            device=body.device,
        )
        await self.receipts.record(receipt)
        self.changed(receipt.conversation_id)
        return Response(status_code=204)
