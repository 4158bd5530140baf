"""Answers of the server itself to requests that never reach the application."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runtime.problems import last_answer

MAX_HEAD = 32 * 1024
"""Bytes of a request besides its body: request line and headers; chunk framing and trailers."""
MAX_HEADERS = 128

_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*\Z")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Problem with which the server itself ends a connection."""

    status: int
    code: str
    detail: str
    retry_s: float | None = None

    def answer(self, fields: Mapping[str, str]) -> bytes:
        """Return it as a whole answer with these fields."""
        return last_answer(self.status, self.code, self.detail, fields, self.retry_s)


class Refused(Exception):
    """Ends the parsing of a request that is well-formed and not acceptable."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


MALFORMED = Refusal(400, "bad_request", "the request must be well-formed HTTP/1.1")
LATE = Refusal(408, "request_timeout", "the request took too long to arrive; send it again", 1.0)
LONG_TARGET = Refusal(414, "headers_too_large", f"a request must have at most {MAX_HEAD} bytes besides its body")
LONG_HEAD = Refusal(431, LONG_TARGET.code, LONG_TARGET.detail)
_MANY_HEADERS = Refusal(431, LONG_TARGET.code, f"a request must have at most {MAX_HEADERS} headers")
_HOSTLESS = Refusal(400, "bad_request", "a request must have one valid Host header")
_VERSION = Refusal(505, "http_version_not_supported", "the version of HTTP must be 1.1 or 1.0")


def check_head(version: str, headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Check what the parser leaves to its user (RFC 9112, sections 2.3 and 3.2). Raises Refused."""
    if version not in ("1.1", "1.0"):
        raise Refused(_VERSION)
    if len(headers) > MAX_HEADERS:
        raise Refused(_MANY_HEADERS)
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) != 1 and (hosts or version == "1.1"):
        raise Refused(_HOSTLESS)
    if hosts and not _HOST.match(hosts[0]):
        raise Refused(_HOSTLESS)
