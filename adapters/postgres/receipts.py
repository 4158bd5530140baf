"""Receipts that come over HTTP: owed to Kafka through the outbox, so that no answered receipt is lost."""

from __future__ import annotations

from dataclasses import dataclass

from adapters.postgres import change_log
from adapters.postgres.pool import Connection, Pool, connection
from adapters.postgres.statements import load
from domain.changes import OutboxEntry
from domain.conversations import NO_CONVERSATION
from domain.errors import Invalid, NotFound, Unavailable
from domain.receipts import fold, place_of
from domain.watermarks import DEVICES_PER_MEMBER
from schemas.codec import decode
from schemas.events import ReceiptRecorded
from schemas.ids import is_uuid

_SQL = load("receipts")
_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class PostgresReceipts:
    """Receipts as rows of the outbox. They stand at seq 0: no change orders them, and a place keeps its key."""

    pool: Pool
    devices: int = DEVICES_PER_MEMBER

    async def record(self, receipt: ReceiptRecorded) -> None:
        id_ = receipt.conversation_id
        if not is_uuid(id_):
            raise NotFound(NO_CONVERSATION)
        async with connection(self.pool) as conn:
            await self._check(conn, receipt)
            for _ in range(_ATTEMPTS):
                if await self._owe(conn, receipt):
                    return
        raise Unavailable("another receipt of this device is stored at the same time; try again")

    async def _check(self, conn: Connection, receipt: ReceiptRecorded) -> None:
        member = {"conversation_id": receipt.conversation_id, "user_id": receipt.user_id}
        head = await (await conn.execute(_SQL["head"], member)).fetchone()
        if head is None:
            raise NotFound(NO_CONVERSATION)
        if receipt.delivered_seq > head[0]:
            raise Invalid(
                f"deliveredSeq and readSeq must be at most {head[0]}, the head",
                [("$", "must not be beyond the head")],
            )

    async def _owe(self, conn: Connection, receipt: ReceiptRecorded) -> bool:
        """Owe the receipt together with what stands in its place; return False when that has changed meanwhile.

        No lock is held between the two statements: a call never waits for another longer than for its commit.
        """
        part = place_of(receipt, self.devices)
        place = {"conversation_id": receipt.conversation_id, "part": part}
        found = await (await conn.execute(_SQL["owed"], place)).fetchone()
        if found is None:
            return await change_log.owe_instead(conn, OutboxEntry(0, receipt, part), None)
        value, event_id, pending = found
        before = decode(ReceiptRecorded.TOPIC, receipt.conversation_id.encode(), value)
        assert isinstance(before, ReceiptRecorded)
        return await change_log.owe_instead(
            conn, OutboxEntry(0, fold(receipt, before, pending=pending), part), event_id
        )
