"""Listening sockets whose peers cost the kernel little, and are cut when they are gone."""

from __future__ import annotations

import socket

_UNSENT = 128 * 1024
"""Bytes that the kernel takes beyond what is on its way; else it keeps megabytes for each peer that does not read."""
_USER_TIMEOUT_MS = 20_000


def open_listener(host: str, port: int) -> socket.socket:
    """Return a listening socket. An accepted one ends when its peer acknowledges nothing for 20 s."""
    listener = socket.create_server((host, port), reuse_port=False)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
    listener.setblocking(False)
    return listener
