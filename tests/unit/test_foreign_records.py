"""Records of anybody, on every topic that the gateway reads: nothing raises, neighbours flow, none is shown."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.dispatcher import READS
from schemas.codec import encode
from schemas.events import AnyEvent
from schemas.ids import new_id
from tests import make
from tests.unit.test_dispatcher import ROOM_CHANNEL, Received, notified, processed, received, standing, status

EVENTS: tuple[AnyEvent, ...] = (
    make.sent(seq=1, content="FOREIGN"),
    make.member_added(1, "mallory"),
    make.member_added(0, "mallory", change="created", members=("mallory",)),
    processed(),
    status(seq=1),
    notified(),
)
assert {type(event) for event in EVENTS} == set(READS)

ids = st.sampled_from([make.ROOM, new_id(), "", "staging-42", "a\0b", "L" * 5000, "\x1b[31m", "conversation:*", "*"])
values: st.SearchStrategy[Any] = st.one_of(
    ids,
    st.none(),
    st.booleans(),
    st.sampled_from([-1, 0, 1, 2, 3, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63), 1.5, float(2**80)]),
    st.sampled_from(["created", "member_removed", "title_changed", "read", "delivered", "bob", "mallory", " "]),
    st.lists(st.sampled_from(["bob", "mallory", make.ROOM, ""]), max_size=3),
    st.dictionaries(st.sampled_from(["seq", "x"]), st.integers(), max_size=2),
)


@st.composite
def mutated(draw: st.DrawFn) -> Received:
    """A record of ours with some of its fields replaced, left out or added; now and then with broken bytes."""
    event: AnyEvent = draw(st.sampled_from(EVENTS))
    fields = orjson.loads(encode(event))
    inner = fields["message"] if "message" in fields and draw(st.booleans()) else fields
    for name in draw(st.lists(st.sampled_from([*inner, "unknown"]), max_size=4, unique=True)):
        if draw(st.booleans()):
            inner[name] = draw(values)
        else:
            inner.pop(name, None)
    raw = json.dumps(fields).encode()
    if draw(st.integers(0, 9)) == 0:
        raw = draw(st.sampled_from([b"", b"null", b"[]", raw[:-1], raw + b"x", b"\xff" + raw, b"[" * 10_000]))
    key = draw(st.sampled_from([fields.get("conversationId"), make.ROOM, "", None]))
    return Received(event.TOPIC, raw, key.encode() if isinstance(key, str) else None)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(mutated(), min_size=1, max_size=20), st.integers(0, 20))
def test_whatever_records_say_only_what_the_store_has_is_shown_and_neighbours_flow(records, place):
    async def run() -> None:
        async with standing() as stand:
            honest = await stand.send("honest")
            batch = list(records)
            batch.insert(place, received(honest))
            await stand.dispatch(*batch)
            frames = stand.bus.frames(ROOM_CHANNEL)
            truth = orjson.loads(encode(honest))["message"]
            assert frames
            assert all(frame["message"] == truth for frame in frames)
            # A record may be about a true creation, too: then its members learn what the store has, and no one else.
            channels = {name for name, _ in stand.bus.published} - {ROOM_CHANNEL}
            assert channels == {f"user:{user}:messages" for user in ("alice", "bob", "carol")}
            assert b"FOREIGN" not in b"".join(data for _, data in stand.bus.published)

    asyncio.run(run())
