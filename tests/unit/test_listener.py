"""Listeners on IPv4, on IPv6, and on both."""

from __future__ import annotations

import socket

import pytest

from runtime.listener import open_listener


def reached(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=2).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("host", "v4", "v6"),
    [
        ("127.0.0.1", True, False),
        ("0.0.0.0", True, False),
        ("localhost", True, False),
        ("::1", False, True),
        ("[::1]", False, True),
        ("::", True, True),
        ("[::]", True, True),
    ],
)
def test_a_listener_is_reached_by(host: str, v4: bool, v6: bool):
    with open_listener(host, 0) as listener:
        port = listener.getsockname()[1]
        assert (reached("127.0.0.1", port), reached("::1", port)) == (v4, v6)


def test_an_address_that_is_none_is_an_oserror():
    with pytest.raises(OSError):
        open_listener("no such host", 0)
