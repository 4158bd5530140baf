"""Row 48b: processes that stand still for ever, as after a lost disk or a bug of the kernel."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from stack.processes import family
from stack.running import RunningStack
from stack.silence import SILENT_S
from tests.fault.chat import Chat, open_chat
from tests.fault.processes import lives_of, names_of, pid_of
from verify.faults.process import send
from verify.testbed import open_testbed

PAUSE_S = 25.0


def stop(stack: RunningStack, names: list[str]) -> list[int]:
    """SIGSTOP of these processes and all that they started; return them."""
    stopped: list[int] = []
    for name in names:
        pid = pid_of(stack, name)
        assert pid is not None
        send([pid], signal.SIGSTOP)
        below = family(pid)
        send(below, signal.SIGSTOP)
        stopped += below
    return stopped


async def flows(chat: Chat) -> None:
    """Everything reaches everybody again, by itself."""
    await chat.say(60)
    await chat.settled(120)
    await chat.verdict()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("is_cluster", [False, True], ids=["single", "cluster"])
async def test_row_48b_what_stands_still_for_ever_is_replaced_and_what_pauses_is_not(is_cluster: bool):
    async with open_testbed(cluster=is_cluster, environment={}, keep=False, seed=48) as testbed:
        stack = testbed.stack
        names = names_of(stack)
        async with open_chat(stack) as chat:
            await flows(chat)
            lives = {name: lives_of(stack, name) for name in names}
            stopped = stop(stack, names)
            await asyncio.sleep(PAUSE_S)  # the fault itself
            send(reversed(stopped), signal.SIGCONT)
            await flows(chat)
            assert {name: lives_of(stack, name) for name in names} == lives
            # Without an address of a server, a process would end by itself: so all at once.
            began = time.monotonic()
            stop(stack, names)
            waiting = set(names)
            while waiting := {name for name in waiting if lives_of(stack, name) == lives[name]}:
                assert time.monotonic() < began + SILENT_S + 40, waiting
                await asyncio.sleep(0.2)
            await flows(chat)
