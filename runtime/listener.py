"""Listening sockets whose peers cost the kernel little, and are cut when they are gone."""

from __future__ import annotations

import socket

_UNSENT = 128 * 1024
"""Bytes that the kernel takes beyond what is on its way; else it keeps megabytes for each peer that does not read."""
_USER_TIMEOUT_MS = 20_000


def open_listener(host: str, port: int) -> socket.socket:
    """Return a listening socket. An accepted one ends when its peer acknowledges nothing for 20 s.

    ``::`` takes IPv4 too, where the machine has both. Raises OSError.
    """
    family, address = _address(host, port)
    is_dual = family == socket.AF_INET6 and address[0] == "::" and socket.has_dualstack_ipv6()
    listener = socket.create_server(address, family=family, dualstack_ipv6=is_dual)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
    listener.setblocking(False)
    return listener


def _address(host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
    """Return the address of a host; of a name that has both, that of IPv4. Raises OSError."""
    host = host.removeprefix("[").removesuffix("]")
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    return family, (str(address[0]), port)
