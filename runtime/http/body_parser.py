"""Bodies of requests that offer another protocol: the parser would take them for data of that protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import httptools

_FRAMING = (b"content-length", b"transfer-encoding")


def has_body(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Return whether a body follows these headers."""
    return any(name in _FRAMING for name, _ in headers)


class _Callbacks:
    """Callbacks of a parser whose head is made up."""

    def __init__(self, on_body: Callable[[bytes], None], on_message_complete: Callable[[], None]) -> None:
        self.on_body = on_body
        self.on_message_complete = on_message_complete


def body_parser(
    headers: Sequence[tuple[bytes, bytes]], on_body: Callable[[bytes], None], on_message_complete: Callable[[], None]
) -> httptools.HttpRequestParser:
    """Return a parser for the body that follows these headers. No request can come after it."""
    parser = httptools.HttpRequestParser(_Callbacks(on_body, on_message_complete))
    parser.feed_data(b"POST / HTTP/1.1\r\n")
    for name, value in headers:
        if name in _FRAMING:
            parser.feed_data(b"%s: %s\r\n" % (name, value))
    parser.feed_data(b"\r\n")
    return parser
