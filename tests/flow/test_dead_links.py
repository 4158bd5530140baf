"""Peers that are gone without a word: what the kernel is asked for, and that it does it."""

from __future__ import annotations

import ctypes
import socket
import time

import pytest

from tests import make

from . import raw
from .raw import until

SO_ATTACH_FILTER = 26
RETURN_NOTHING = bytes.fromhex("0600000000000000")
"""One instruction of a classic packet filter: take no byte of any packet."""


def lose_everything(sock: socket.socket) -> None:
    """The socket's packets are dropped before TCP sees them, so nothing is acknowledged: a black hole for one peer."""
    program = ctypes.create_string_buffer(RETURN_NOTHING)
    given = (1).to_bytes(2, "little") + bytes(6) + ctypes.addressof(program).to_bytes(8, "little")
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, given)


async def test_accepted_sockets_have_what_the_listener_was_told(world):
    async with world.client():
        [connection] = world.gateway.connections.values()
        sock = connection.transport.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


@pytest.mark.slow
async def test_a_peer_in_a_black_hole_is_gone_after_20_s(world):
    """Its socket buffers hold all that is sent, so nothing but missing acknowledgements shows it."""
    async with raw.open_raw(world.port) as bob, world.client("carol") as carol:
        bob.say(type="join_conversation", id=make.ROOM)
        await bob.next("joined")
        await carol.join()
        lose_everything(bob.socket)
        began = time.monotonic()
        await world.send()
        await until(lambda: len(world.gateway.connections) == 1, 30)
        assert time.monotonic() - began > 15
        assert (await carol.next("new_message"))["seq"] == 1
