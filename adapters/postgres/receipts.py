"""Receipts that come over HTTP: owed to Kafka through the outbox, so that no answered receipt is lost."""

from __future__ import annotations

from dataclasses import dataclass

from adapters.postgres import change_log
from adapters.postgres.pool import Connection, Pool, transaction
from adapters.postgres.statements import load
from domain.changes import OutboxEntry
from domain.conversations import NO_CONVERSATION
from domain.errors import Invalid, NotFound
from domain.receipts import fold, place_of
from domain.watermarks import DEVICES_PER_MEMBER
from schemas.codec import decode
from schemas.events import ReceiptRecorded
from schemas.ids import is_uuid

_SQL = load("receipts")
_LOCK_SPACE = 0x7265  # "re"


@dataclass(frozen=True, slots=True)
class PostgresReceipts:
    """Receipts as rows of the outbox. They stand at seq 0: no change orders them, and a place keeps its key."""

    pool: Pool
    devices: int = DEVICES_PER_MEMBER

    async def record(self, receipt: ReceiptRecorded) -> None:
        id_ = receipt.conversation_id
        if not is_uuid(id_):
            raise NotFound(NO_CONVERSATION)
        async with transaction(self.pool) as conn:
            member = {"conversation_id": id_, "user_id": receipt.user_id}
            head = await (await conn.execute(_SQL["head"], member)).fetchone()
            if head is None:
                raise NotFound(NO_CONVERSATION)
            if receipt.delivered_seq > head[0]:
                raise Invalid(
                    f"deliveredSeq and readSeq must be at most {head[0]}, the head",
                    [("$", "must not be beyond the head")],
                )
            await change_log.owe_again(conn, [await self._folded(conn, receipt)])

    async def _folded(self, conn: Connection, receipt: ReceiptRecorded) -> OutboxEntry:
        part = place_of(receipt, self.devices)
        member = {"conversation_id": receipt.conversation_id, "user_id": receipt.user_id}
        await conn.execute(_SQL["lock"], {**member, "space": _LOCK_SPACE})
        found = await (await conn.execute(_SQL["owed"], {**member, "part": part})).fetchone()
        if found is None:
            return OutboxEntry(0, receipt, part)
        value, pending = found
        before = decode(ReceiptRecorded.TOPIC, receipt.conversation_id.encode(), value)
        assert isinstance(before, ReceiptRecorded)
        return OutboxEntry(0, fold(receipt, before, pending=pending), part)
