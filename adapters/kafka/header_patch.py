"""Patch for records whose header names are not UTF-8: Kafka takes them, and aiokafka raises UnicodeDecodeError.

The error ends the consumer, and it comes again after each start: a single record would stop every reader of its topic
for good. So the rest of such a fetch is read with a replacement character in place of what is not UTF-8; the fast way
for all others stays. For aiokafka 0.14.0 exactly.
"""

from __future__ import annotations

from typing import Any, SupportsIndex, overload

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy

_MAGIC_AT, _MAGIC = 16, 2
_next = fetcher.PartitionRecords.__next__


def patch_header_names() -> None:
    """Make consumers read header names of any bytes. Idempotent."""
    fetcher.MemoryRecords = _KeptRecords
    fetcher.PartitionRecords.__next__ = _next_or_lenient


class _KeptRecords(MemoryRecords):  # type: ignore[misc]
    """Records of a fetch, with their bytes."""

    def __init__(self, raw: bytes) -> None:
        super().__init__(raw)
        self.raw = raw


class _Text(bytearray):
    """Bytes whose slices are decoded leniently."""

    @overload
    def __getitem__(self, key: SupportsIndex) -> int: ...
    @overload
    def __getitem__(self, key: slice) -> bytearray: ...
    def __getitem__(self, key: SupportsIndex | slice) -> int | bytearray:
        return _Text(super().__getitem__(key)) if isinstance(key, slice) else super().__getitem__(key)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return super().decode(encoding, "replace")


class _LenientBatch(_DefaultRecordBatchPy):  # type: ignore[misc]
    _buffer: bytearray

    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer = _Text(self._buffer)


class _LenientRecords(_MemoryRecordsPy):  # type: ignore[misc]
    """The batches of a fetch from the one with the record at ``begin`` on: those before it were read."""

    def __init__(self, raw: bytes, begin: int) -> None:
        super().__init__(raw)
        self._begin = begin

    def next_batch(self, *more: Any) -> Any:
        while (found := self._next_slice) is not None:
            batch = super().next_batch(*more)
            if batch.next_offset > self._begin or not self.has_next():
                return _LenientBatch(found) if found[_MAGIC_AT] >= _MAGIC else batch
        return None


def _next_or_lenient(self: Any) -> Any:
    try:
        return _next(self)
    except UnicodeDecodeError:
        # ``next_fetch_offset`` stands behind what was handed out, which is not handed out again.
        self._records = _LenientRecords(self._records.raw, self.next_fetch_offset)
        self._records_iterator = self._unpack_records()
        return _next(self)
