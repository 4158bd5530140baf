"""Free TCP ports on 127.0.0.1, below those that the kernel gives to outgoing connections."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stack.errors import StackError

LOWEST, HIGHEST = 20_000, 32_767


def is_free(port: int) -> bool:
    """Return whether a server could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def allot(names: Sequence[str], before: Mapping[str, Any], wanted: Mapping[str, int]) -> dict[str, int]:
    """Return a free port for each name: the wanted one, else its earlier one, else the next of a random series.

    A series, because nothing listens on a port that was just allotted: so stacks that start at the same time seldom
    choose the same. ``before`` comes from a file and may hold anything. Raises StackError when a wanted port is taken.
    """
    given: dict[str, int] = {}
    for name, port in wanted.items():
        if not 0 < port < 65_536:
            raise StackError(f"{port} for {name} is not a port; give one from 1 to 65535, or none to get a free one")
        if port in given.values() or not is_free(port):
            raise StackError(f"port {port} for {name} is taken; give another, or none to get a free one")
        given[name] = port
    row = _row()
    for name in names:
        if name not in given:
            earlier, taken = before.get(name), set(given.values())
            if isinstance(earlier, int) and earlier not in taken and _is_usable(earlier):
                given[name] = earlier
            else:
                given[name] = next(port for port in row if port not in taken and is_free(port))
    return given


def _is_usable(port: int) -> bool:
    return 0 < port < 65_536 and is_free(port)


def _row() -> Iterator[int]:
    count, first = HIGHEST - LOWEST + 1, random.randrange(HIGHEST - LOWEST + 1)
    for n in range(count):
        yield LOWEST + (first + n) % count
    raise StackError(f"no free port between {LOWEST} and {HIGHEST}; end something that listens there")
