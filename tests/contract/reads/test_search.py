"""Search: the twin and PostgreSQL."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from domain.search import Query, find
from domain.terms import parse
from schemas.ids import new_id
from schemas.messages import Message
from tests import make

FOUND = [
    ("Please look at PLT-3699 before lunch", "PLT-3699", "3699", "lunch PLT-3699", "plt"),
    ("the covid-19 vaccine works", "covid", "covid-19", "vaccine covid-19", "covid19"),
    ("see https://www.example.com/docs/a4/index.html", "example.com/docs", "docs a4", "https://www.example.com/docs"),
    ("write to jane.doe@example.com today", "jane.doe@example.com", "jane doe", "today doe"),
    ("use Map<String, Integer> here", "Map<String", "Integer String", "generic -String use", "!= here"),
    ("Wir treffen M\u00fcller im Caf\u00e9", "muller", "caf\u00e9 M\u00dcLLER", "Cafe\u0301"),
    ("\u039f\u0394\u039f\u03a3 \u0391\u03b8\u03b7\u03bd\u03ce\u03bd", "\u03bf\u03b4\u03cc\u03c2"),
    (
        "\u660e\u65e5\u306f\u6771\u4eac\u30bf\u30ef\u30fc\u3078",
        "\u6771\u4eac",
        "\u4eac",
        "\u3078",
        "\u30bf\u30ef\u30fc \u6771\u4eac",
    ),
    (
        "\u0e09\u0e31\u0e19\u0e0a\u0e2d\u0e1a\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22",
        "\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22",
    ),
    ("\uc11c\uc6b8\uc2dc\uccad\uc5d0\uc11c \ud68c\uc758\ub294", "\uc2dc\uccad", "\ud68c\uc758 \uc2dc\uccad"),
    ("\u092e\u0941\u091d\u0947 \u0939\u093f\u0928\u094d\u0926\u0940", "\u0939\u093f\u0928\u094d\u0926\u0940"),
    ("\u0627\u0644\u0633\u0651\u064e\u0644\u0627\u0645\u064f", "\u0627\u0644\u0633\u0644\u0627\u0645"),
    ("ship it \U0001f389 now", "\U0001f389", "now \U0001f389", "ship"),
    ("upgrade to v3.11.7-rc2 please", "v3.11.7", "3.11", "rc2", "upgrade rc2"),
    ("\u0130STANBUL ve \u0131\u015f\u0131k", "istanbul", "isik"),
    ("Die Stra\u00dfe ist lang", "STRASSE", "strasse lang"),
    ("zero\u200bwidth space", "zerowidth"),
    ("to be or not to be", "to be", "not", '"not to be"'),
]


def newest_first(messages: list[Message]) -> list[Message]:
    """Return the messages in the order of hits; ids of one millisecond are in any order."""
    return sorted(messages, key=lambda message: message.message_id, reverse=True)


@pytest.mark.parametrize(
    ("content", "asked"), [(row[0], asked) for row in FOUND for asked in row[1:] if "generic" not in asked]
)
async def test_what_people_type_finds_what_was_said(world, content, asked):
    [message, _] = await world.say(content, "xyzzy")
    assert await world.find(asked) == [message]


@pytest.mark.parametrize("asked", ['"fast red"', "car -fast", "car -red", 'car -"red fast"', "fas car", "blue"])
async def test_phrases_and_exclusions_leave_messages_out(world, asked):
    await world.say("red fast car")
    assert await world.find(asked) == []


@pytest.mark.parametrize(
    "asked", ["'", "a & | !", "\\x", "foo:*", "x'::text", "'); DROP TABLE messages; --", "-a b'\\"]
)
async def test_any_text_can_be_searched_for(world, asked):
    if parse(asked):
        await world.find(asked)


async def test_hits_come_newest_first_and_to_members_only(world):
    said = await world.say("The Windmill turns", "nothing here", "wind & <b>windows</b>")
    assert await world.find("wind") == newest_first([said[0], said[2]])
    assert await world.find("windmill turns") == [said[0]]
    assert await world.find("wind", user="eve") == []


async def test_who_is_no_member_any_more_finds_nothing(world):
    [message] = await world.say("a fox")
    assert await world.find("fox", user="carol", conversation_id=None) == [message]
    await world.conversations.remove(world.room, "carol", "alice")
    assert await world.find("fox", user="carol", conversation_id=None) == []


async def test_a_document_is_written_whatever_order_events_come_in(world):
    first, second = [await world.send(text) for text in ("a fox", "two foxes")]
    for ids in ([second.message_id], [first.message_id, second.message_id, first.message_id], [new_id()]):
        await world.index.refresh(ids)
    assert await world.find("fo") == newest_first([first, second])


async def test_a_rebuild_indexes_all_messages_once(world):
    message = await world.send("a walrus")
    assert await world.find("walrus") == []
    while await world.index.rebuild(2):
        pass
    assert await world.find("walrus") == [message]
    assert await world.index.rebuild(2) == 0


async def test_a_search_keeps_its_bounds(world):
    elsewhere = new_id()
    await world.conversations.create(elsewhere, None, "alice", ["bob"])
    message, other = await world.send("a fox"), await world.send("a fox at https://fox.example", sender="carol")
    [third] = await world.intake.accept([make.draft("a fox", conversationId=elsewhere, type="image")])
    await world.index.refresh([message.message_id, other.message_id, third.message.message_id])
    at = datetime.fromisoformat(message.created_at)
    second = timedelta(seconds=1)

    async def found(**bounds: Any) -> set[str]:
        return {hit.message_id for hit in await world.find("fox", **bounds)}

    assert await found() == {message.message_id, other.message_id}
    assert {message.message_id, third.message.message_id} <= await found(conversation_id=None)
    assert await found(sender_id="carol") == {other.message_id}
    assert await found(features=frozenset({"HAS:link"})) == {other.message_id}
    assert await found(features=frozenset({"HAS:attachment"})) == set()
    assert await found(features=frozenset({"TYPE:text"})) == {message.message_id, other.message_id}
    assert await found(conversation_id=elsewhere, features=frozenset({"TYPE:image"})) == {third.message.message_id}
    assert await found(after=at - second, before=at + 60 * second) == {message.message_id, other.message_id}
    assert await found(after=at + 60 * second) == await found(before=at - second) == set()


async def test_pages_neither_repeat_nor_skip_while_messages_arrive(world):
    said = await world.say(*(f"fox {number}" for number in range(7)))
    pages, older_than = [], None
    while True:
        query = Query(terms=parse("fox"), conversation_id=world.room, older_than=older_than)
        page = await world.search.search("bob", query, limit=2)
        pages += page
        if not page:
            break
        older_than = page[-1].message_id
        await world.say("another fox")
    assert [message for message in pages if message in said] == newest_first(said)
    assert len({message.message_id for message in pages}) == len(pages)


async def test_a_typing_error_finds_what_was_meant_and_names_it(world):
    [message] = await world.say("permission denied for the archive")
    query = Query(terms=parse("permision denied"), conversation_id=world.room)
    found = await find(world.search, "bob", query, limit=10)
    assert [hit for hit, _ in found.hits] == [message]
    assert found.corrected == ["permission"]
    assert found.hits[0][1].highlight.startswith("<mark>permission</mark> <mark>denied</mark>")


async def test_a_correction_names_no_word_that_only_others_have_written(world):
    elsewhere = new_id()
    await world.conversations.create(elsewhere, None, "eve", ["mallory"])
    [secret] = await world.intake.accept([make.draft("project zeppelin", conversationId=elsewhere, sender="eve")])
    await world.index.refresh([secret.message.message_id])
    await world.say("zepelin is what bob typed")
    found = await find(world.search, "bob", Query(terms=parse("zepelin")), limit=10)
    assert (list(found.corrected), len(found.hits)) == ([], 1)
    assert (await find(world.search, "eve", Query(terms=parse("zepelin")), limit=10)).corrected == ["zeppelin"]
