"""Ranges and conditions of downloads, as RFC 9110 has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from domain.errors import PreconditionFailed, RangeNotSatisfiable
from ingest.http.ranges import byte_range, is_unchanged

TAG = '"abc-original"'


def span(text: str, size: int = 100, **more: str) -> tuple[int, int] | None:
    found = byte_range(Headers({"range": text, **{k.replace("_", "-"): v for k, v in more.items()}}), size, TAG)
    return None if found is None else (found.start, found.end)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("bytes=0-1", (0, 2)),
        ("bytes=0-0", (0, 1)),
        ("bytes=99-99", (99, 100)),
        ("bytes=10-", (10, 100)),
        ("bytes=0-", (0, 100)),
        ("bytes=90-1000", (90, 100)),
        ("bytes=90-" + "9" * 60, (90, 100)),
        ("bytes=-10", (90, 100)),
        ("bytes=-1000", (0, 100)),
        ("Bytes= 5 - 6 ", (5, 7)),
        # Whatever is no single range brings the whole.
        ("bytes=0-1,5-6", None),
        ("bytes=5-4", None),
        ("bytes=", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=0x1-2", None),
        ("bytes=²-³", None),
        ("bytes=1-2-3", None),
        ("bytes=" + "9" * 5000 + "-", None),
        ("items=0-1", None),
        ("", None),
    ],
)
def test_a_single_range_is_understood(text, wanted):
    assert span(text) == wanted


@pytest.mark.parametrize(
    ("text", "size"), [("bytes=100-", 100), ("bytes=100-200", 100), ("bytes=-0", 100), ("bytes=0-", 0)]
)
def test_a_range_outside_the_file_cannot_be_satisfied(text, size):
    with pytest.raises(RangeNotSatisfiable) as refused:
        span(text, size)
    assert refused.value.size == size


def test_the_last_bytes_of_an_empty_file_are_the_whole_of_it():
    assert span("bytes=-5", 0) is None


@pytest.mark.parametrize(
    ("if_range", "wanted"),
    [(TAG, (0, 2)), ('"other"', None), (f"W/{TAG}", None), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("", None)],
)
def test_a_range_of_another_version_is_not_sent(if_range, wanted):
    assert span("bytes=0-1", if_range=if_range) == wanted


@given(st.integers(0, 200), st.integers(0, 200), st.integers(1, 150))
def test_a_range_is_what_a_slice_would_be(first, last, size):
    content = bytes(range(size))
    if first >= size and first <= last:
        with pytest.raises(RangeNotSatisfiable):
            span(f"bytes={first}-{last}", size)
    elif first > last:
        assert span(f"bytes={first}-{last}", size) is None
    else:
        start, end = span(f"bytes={first}-{last}", size)
        assert content[start:end] == content[first : last + 1]


def test_the_header_of_an_answer_names_the_last_byte():
    assert byte_range(Headers({"range": "bytes=2-5"}), 10, TAG).content_range == "bytes 2-5/10"


@pytest.mark.parametrize(
    ("text", "unchanged"),
    [
        (TAG, True),
        (f"W/{TAG}", True),
        (f'"x", {TAG}', True),
        ("*", True),
        ('"x"', False),
        ("", False),
        (TAG.strip('"'), False),
    ],
)
def test_a_copy_that_one_has_is_recognized(text, unchanged):
    assert is_unchanged(Headers({"if-none-match": text}), TAG) == unchanged


@pytest.mark.parametrize(
    ("text", "holds"),
    [(TAG, True), (f'W/"x", {TAG}', True), ("*", True), ('"x"', False), (f"W/{TAG}", False), ("", False)],
)
def test_a_file_that_must_be_of_a_version_is(text, holds):
    if holds:
        assert not is_unchanged(Headers({"if-match": text}), TAG)
    else:
        with pytest.raises(PreconditionFailed):
            is_unchanged(Headers({"if-match": text, "if-none-match": TAG}), TAG)


def test_without_the_condition_nothing_is_unchanged():
    assert not is_unchanged(Headers({}), TAG)
