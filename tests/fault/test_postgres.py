"""Rows 7 to 13: the store dies, stands still, or is cut off."""

from __future__ import annotations

import asyncio
import time

from ops.running import RunningStack
from ops.verify.faults import World, fault
from ops.verify.faults.network import COMMITTED
from ops.verify.proxy import Trap, open_proxy
from tests.fault.chat import OK, open_chat
from tests.fault.conftest import Beside
from tests.fault.test_ingest import COMMIT


async def test_row_07_the_store_is_killed_under_load_and_all_goes_on_by_itself(stack: RunningStack, world: World):
    async with open_chat(stack) as chat:
        load = asyncio.create_task(chat.say(240, pace_s=0.1))
        while len(chat.attempts) < 60:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        killed = time.monotonic()
        await fault("kill-postgres").inject(world)
        await load
        failed = [each for each in chat.attempts if each.status not in OK]
        assert failed, "the load did not notice"
        assert {each.status for each in failed} == {503}
        back = min(each.ended for each in chat.attempts if each.status in OK and each.began > failed[0].ended)
        assert back - killed < 10
        await chat.settled(60)
        await chat.verdict()


async def test_row_09_a_connection_cut_at_commit_is_unknown_and_the_retry_tells(stack: RunningStack, beside: Beside):
    async with open_proxy() as proxy, open_chat(stack, rooms=1) as chat:
        ingest, [room] = await beside("ingest", pg=proxy), chat.rooms
        # The commit arrives, its answer does not; then the commit does not arrive.
        for way, trap, stored in ((proxy.down, Trap(pattern=COMMITTED), True), (proxy.up, Trap(pattern=COMMIT), False)):
            way.trap = trap
            cut = await chat.attempt(room, f"stored: {stored}", door=ingest.http_url)
            assert trap.sprung.is_set()
            assert (cut.status, cut.said.get("outcome")) == (503, "unknown")
            again = await chat.post(room, cut.content, key=cut.key)
            assert (again.status, again.replayed) == ((200, True) if stored else (201, False))
            assert (await chat.attempt(room, "next", door=ingest.http_url)).status == 201
        await chat.settled()
        await chat.verdict()
