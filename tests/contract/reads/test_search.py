"""Search: the twin and PostgreSQL."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec

from domain.search import Query
from schemas.ids import new_id
from tests import make


async def test_a_search_finds_words_by_their_beginning_for_members_only(world):
    for content in ("The Windmill turns", "nothing here", "wind & <b>windows</b>"):
        await world.index.put([await world.send(content)])
    hits = await world.find("wind")
    assert {hit.message.content for hit in hits} == {"The Windmill turns", "wind & <b>windows</b>"}
    assert [hit.message.content for hit in await world.find("windmill turns")] == ["The Windmill turns"]
    assert await world.find("wind", user="eve") == []
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) > 0


async def test_a_document_becomes_what_the_store_says(world):
    message = await world.send("a fox")
    await world.index.put([msgspec.structs.replace(message, content="a forged fox", seq=9, sender_id="eve")])
    await world.index.put([message])
    assert await world.find("forged") == []
    assert [hit.message for hit in await world.find("fox")] == [message]
    assert [hit.message for hit in await world.find("fox", sender_id="alice")] == [message]


async def test_a_highlight_is_escaped_html(world):
    await world.index.put([await world.send("<script>alert(1)</script> windmill")])
    [hit] = await world.find("windmill")
    assert hit.highlight == "&lt;script&gt;alert(1)&lt;/script&gt; <mark>windmill</mark>"


async def test_a_search_keeps_its_bounds(world):
    elsewhere = new_id()
    await world.conversations.create(elsewhere, None, "alice", ["bob"])
    message = await world.send("a fox")
    other = await world.send("a fox", sender="carol")
    [third] = await world.intake.accept([make.draft("a fox", conversationId=elsewhere)])
    await world.index.put([message, other, third.message])
    at = datetime.fromisoformat(message.created_at)
    second = timedelta(seconds=1)

    async def found(**bounds: Any) -> set[str]:
        return {hit.message.message_id for hit in await world.find("fox", **bounds)}

    assert await found() == {message.message_id, other.message_id}
    assert {message.message_id, third.message.message_id} <= await found(conversation_id=None)
    assert await found(sender_id="carol") == {other.message_id}
    assert await found(after=at - second, before=at + 60 * second) == {message.message_id, other.message_id}
    assert await found(after=at + 60 * second) == await found(before=at - second) == set()


async def test_pages_of_hits_have_no_hit_twice(world):
    await world.index.put([await world.send(f"fox {number}") for number in range(5)])
    query = Query(text="fox", conversation_id=world.room)
    pages = [await world.search.search("bob", query, limit=2, offset=offset) for offset in (0, 2, 4, 6)]
    assert [len(page) for page in pages] == [2, 2, 1, 0]
    assert len({hit.message.message_id for page in pages for hit in page}) == 5
