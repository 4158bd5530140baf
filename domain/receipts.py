"""Receipts that an answered call has promised to keep, and the time up to which receipts are in the store.

Names of devices are the client's to choose, so what a member may owe to Kafka is bounded: a member has as many places
in the outbox of a conversation as devices are kept, and a device always takes the same one.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
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


@dataclass(frozen=True, slots=True)
class Progress:
    """Offsets of a partition of receipts: that of the next record, and that up to which receipts are in the store."""

    end: int
    stored: int


class ReceiptProgress(Protocol):
    """Progress of the status stage in the receipts of the log."""

    async def read(self) -> Mapping[int, Progress]:
        """Return the progress in each partition. Raises Unavailable."""


@dataclass(slots=True)
class ReceiptBarrier:
    """Finds the time up to which all receipts are in the store, so that nobody is judged by receipts under way.

    The ends of the log at one time are a barrier: once the stage has passed them, it has stored what came before that
    time. While the log does not answer, receipts wait in the gateways; they get ``settle_s`` seconds when it is back.
    A stage that does not get on holds up decisions for ``max_wait_s`` at most, counted from when the log answers.
    """

    progress: ReceiptProgress
    settle_s: float
    max_wait_s: float
    _answers_since: datetime | None = None
    _barrier: tuple[datetime, Mapping[int, int]] | None = None
    _passed: datetime | None = None

    def rest(self) -> None:
        """Note that nothing waits: nobody watches the log until ``passed`` is called again."""
        self._answers_since = self._barrier = None

    async def passed(self, at: datetime) -> datetime | None:
        """Return the time up to which decisions may be made; None while that is not known. Raises Unavailable.

        ``at``: the time now. To be called every second while something waits, so that an outage does not go unnoticed.
        """
        try:
            progress = await self.progress.read()
        except BaseException:
            self.rest()
            raise
        self._move(at, progress)
        if self._answers_since is None:
            self._answers_since = at
        answers = at - self._answers_since
        if answers < timedelta(seconds=self.settle_s):
            return None
        longest = timedelta(seconds=self.max_wait_s)
        times = [self._passed, at - longest if answers >= longest else None]
        return max((time for time in times if time is not None), default=None)

    def _move(self, at: datetime, progress: Mapping[int, Progress]) -> None:
        if all(partition.stored >= partition.end for partition in progress.values()):
            self._passed, self._barrier = at, None
            return
        if self._barrier is not None:
            since, ends = self._barrier
            here = {number: progress.get(number, Progress(-1, -1)) for number in ends}
            if all(here[number].stored >= end for number, end in ends.items()):
                self._passed, self._barrier = since, None
            elif any(here[number].end < end for number, end in ends.items()):  # another log, which has lost records
                self._barrier = None
        if self._barrier is None:
            self._barrier = at, {number: partition.end for number, partition in progress.items()}
