"""Free TCP ports on 127.0.0.1, below those that the kernel gives to outgoing connections."""

from __future__ import annotations

import random
import socket
from collections.abc import Mapping, Sequence

from runtime.stack.errors import StackError

LOWEST, HIGHEST = 20_000, 32_767


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def allot(names: Sequence[str], before: Mapping[str, int], wanted: Mapping[str, int]) -> dict[str, int]:
    """A free port for each name: the wanted one, else the one it had before, else a random one.

    Raises StackError when a wanted port is taken.
    """
    given: dict[str, int] = {}
    for name in names:
        if name in wanted:
            if not is_free(wanted[name]):
                raise StackError(f"port {wanted[name]} for {name} is taken; give another, or none to get a free one")
            given[name] = wanted[name]
            continue
        had = before.get(name)
        keep = had is not None and had not in given.values() and is_free(had)
        given[name] = had if keep and had is not None else _random(set(given.values()))
    return given


def _random(taken: set[int]) -> int:
    for _ in range(1000):
        port = random.randint(LOWEST, HIGHEST)
        if port not in taken and is_free(port):
            return port
    raise StackError(f"no free port between {LOWEST} and {HIGHEST}; end something that listens there")
