"""``python -m bench.bare PORT``: the websockets library alone, the least that a connection can cost."""

from __future__ import annotations

import sys

import uvloop
from websockets.asyncio.server import ServerConnection, serve


async def stay(peer: ServerConnection) -> None:
    """Keep the connection until the client closes it."""
    await peer.wait_closed()


async def run(port: int) -> None:
    """Serve until killed."""
    async with serve(stay, "127.0.0.1", port, compression=None, backlog=4096) as server:
        print("ready", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(run(int(sys.argv[1])))
