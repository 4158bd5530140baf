"""Single servers of a stack, run by a test itself."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Awaitable, Callable

from stack.child import Child


async def until(ready: Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(seconds):
        while not await ready():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def start(child: Child) -> subprocess.Popen[bytes]:
    """Prepare and start a child; return once it is ready. It outlives the event loop, and not its test."""
    if child.prepare is not None:
        await child.prepare()
    user, group = child.user or (None, None)
    child.log.parent.mkdir(parents=True, exist_ok=True)
    with child.log.open("ab") as log:
        process = subprocess.Popen(  # noqa: ASYNC220
            child.argv,
            stdout=log,
            stderr=log,
            env=dict(child.env),
            cwd=child.cwd,
            user=user,
            group=group,
            extra_groups=None if user is None else [],
            start_new_session=True,
        )
    await until(child.ready)
    return process
