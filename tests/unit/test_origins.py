"""Which pages may connect."""

from __future__ import annotations

import pytest

from domain.errors import Invalid
from domain.origins import allowed, may_connect

LISTED = allowed(["https://chat.example", "http://Intern.Example:8080", "https://[2001:DB8::1]"])


@pytest.mark.parametrize(
    "text",
    [
        "https://chat.example", "https://chat.example:443", "HTTPS://Chat.Example", "http://intern.example:8080",
        "https://[2001:db8::1]",
    ],
)  # fmt: skip
def test_case_and_the_usual_port_make_no_difference(text):
    assert may_connect(text, LISTED)


@pytest.mark.parametrize(
    "text",
    [
        "http://chat.example", "https://chat.example:8443", "https://chat.example.evil.example", "https://evilchat.example",
        "https://sub.chat.example", "https://chat.example/", "https://chat.example/path", "https://user@chat.example",
        "https://chat.example:0x1bb", "https://chat.example:99999", "https://chat.example#", "https://chat.example?",
        "https://chat.example,https://evil.example", "https://chat.example https://evil.example", "//chat.example",
        "http://intern.example", "https://intern.example:8080", "http://localhost", "file://", "null", "NULL", "", " ",
        "https://chat.example\n", "https://ch\u0430t.example", "chat.example", "javascript:alert(1)",
    ],
)  # fmt: skip
def test_everything_else_may_not(text):
    assert not may_connect(text, LISTED)


@pytest.mark.parametrize(
    ("text", "may"),
    [
        ("http://localhost:3000", True), ("https://127.0.0.1", True), ("http://[::1]:9", True), ("null", False),
        ("http://localhost.evil.example", False), ("http://127.0.0.1.evil.example", False), ("file://", False),
        ("https://chat.example", False),
    ],
)  # fmt: skip
def test_without_a_list_only_pages_of_this_host(text, may):
    assert may_connect(text, frozenset()) is may


@pytest.mark.parametrize("text", ["null", "*", "https://*.example", "https://chat.example/", "chat.example"])
def test_a_list_that_no_page_could_be_on_stops_the_start(text):
    with pytest.raises(Invalid, match="MILLRACE_GATEWAY__ORIGINS"):
        allowed([text])
