"""Header names that are no UTF-8: aiokafka's reader of a fetch ends with an error, ours goes on."""

from __future__ import annotations

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from adapters.kafka.header_patch import patch_header_names

patched = pytest.fixture(autouse=True)(lambda: patch_header_names())
PLACE = TopicPartition("message.created", 3)
GZIP = 1


class Name(str):
    """A header name in bytes that are no UTF-8."""

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return b"\xff" + super().encode(encoding, errors) + b"\xfe"


def batch(first: int, names: list[str], compression: int = 0) -> bytes:
    """Return a batch with a record for each name of a header, from an offset on."""
    builder = _DefaultRecordBatchBuilderPy(2, compression, 0, -1, -1, -1, 1_000_000)
    for number, name in enumerate(names):
        builder.append(number, 1_000, b"key", f"value {first + number}".encode(), [(name, b"1"), ("none", None)])
    built = bytearray(builder.build())
    built[:8] = first.to_bytes(8, "big")
    return bytes(built)


def read(raw: bytes, begin: int = 0) -> list[tuple[int, bytes, tuple[tuple[str, bytes | None], ...]]]:
    records = fetcher.PartitionRecords(PLACE, fetcher.MemoryRecords(raw), [], begin, None, None, True, 0)
    return [(record.offset, record.value, record.headers) for record in records]


@pytest.mark.parametrize("compression", [0, GZIP])
def test_records_around_a_header_name_of_any_bytes_are_read_once_and_in_order(compression):
    raw = batch(0, ["a", "b"]) + batch(2, ["c", Name("x"), "d"], compression) + batch(5, ["ä", Name("y")], compression)
    found = read(raw)
    assert [(offset, value) for offset, value, _ in found] == [(n, f"value {n}".encode()) for n in range(7)]
    names = [headers[0] for _, _, headers in found]
    assert names == [(name, b"1") for name in ("a", "b", "c", "\ufffdx\ufffd", "d", "ä", "\ufffdy\ufffd")]
    assert {headers[1] for _, _, headers in found} == {("none", None)}


def test_a_fetch_that_begins_within_a_batch_begins_there():
    assert [offset for offset, _, _ in read(batch(0, ["a", Name("x"), "b", Name("y"), "c"]), begin=2)] == [2, 3, 4]


def test_a_fetch_without_such_names_is_read_by_the_library_alone(monkeypatch):
    monkeypatch.setattr("adapters.kafka.header_patch._LenientRecords", None)
    assert [offset for offset, _, _ in read(batch(0, ["a", "ä", "b"]))] == [0, 1, 2]
