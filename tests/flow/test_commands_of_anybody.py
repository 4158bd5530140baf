"""Frames of anybody on a real socket: whatever is sent, the others are served and nothing is recorded for strangers."""

from __future__ import annotations

import asyncio
import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.limits import Limits
from schemas.codec import decode
from tests import make
from tests.unit.test_hostile_commands import frames

from . import raw
from .conftest import open_world
from .raw import TEXT, frame, until

MANY = Limits(frames_per_s=0, joins_per_s=0)


@settings(
    max_examples=int(os.environ.get("HOSTILE_EXAMPLES", "15")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.lists(frames(), min_size=1, max_size=9))
def test_whatever_is_sent_in_one_write_the_node_serves_the_others_and_records_only_what_is_true(sent):
    async def run() -> None:
        async with open_world(limits=MANY) as world, world.client("carol") as carol:
            await world.send()
            await carol.join(after=0)
            async with raw.open_raw(world.port) as hostile:
                hostile.send(b"".join(frame(TEXT, text.encode("utf-8", "replace")) for text in sent))
                hostile.say(type="ping", ref="end")
                answered = asyncio.create_task(hostile.ended(20))
                await asyncio.sleep(0)
                seq = await world.send("honest")
                assert (await carol.next("new_message"))["seq"] == seq
                hostile.writer.write_eof()
                await answered
            await until(lambda: world.gateway.admission.open == 1)
            await world.parts.receipts.flush()
            events = [decode(record.topic, record.key, record.value) for record in world.log.records]
            assert {(event.conversation_id, event.user_id) for event in events} <= {(make.ROOM, "bob")}
            assert not any(task.done() for task in world.tasks)

    asyncio.run(run())
