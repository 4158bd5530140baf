"""Frames that ``millrace listen`` prints, and when it has printed all that was wanted."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from millrace_client import LiveConnection

from cli.chat import printer_on

ROOM, OTHER = "01900000-0000-7000-8000-000000000001", "01900000-0000-7000-8000-000000000002"


def message(seq: int, room: str = ROOM) -> dict[str, Any]:
    fields = {"messageId": f"m{seq}", "conversationId": room, "seq": seq, "senderId": "alice", "type": "text"}
    fields |= {"content": "hi", "createdAt": "t", "status": "sent"}
    return {"type": "new_message", "conversationId": room, "seq": seq, "message": fields}


def joined(seq: int) -> dict[str, Any]:
    return {"type": "joined", "id": ROOM, "seq": seq, "ref": 1}


class SilentTransport:
    """Transport on which nothing is answered."""

    async def send(self, data: bytes, text: bool) -> None:
        pass

    async def close(self) -> None:
        pass


@pytest.fixture
def printed(capsys):
    async def run(*frames: dict[str, Any], conversation: str | None = ROOM, messages: int | None = None, after=0):
        """Return the seqs of the messages that are printed, until the last one wanted."""
        live = LiveConnection("", "")
        printer_on(live, conversation, after, messages)
        live.opened(SilentTransport())
        for frame in frames:
            if live._stopped.is_set():
                break
            live.receive(orjson.dumps(frame))
        lines = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
        return [line["seq"] for line in lines if line["type"] == "new_message"]

    return run


async def test_hints_that_come_before_their_turn_cost_no_message(printed):
    frames = (message(8), message(6), message(7), message(8), joined(8), message(9))
    assert await printed(*frames, after=5) == [6, 7, 8, 9]


async def test_repeats_are_not_printed(printed):
    frames = (message(1), message(2), joined(2), message(2), message(1), message(3))
    assert await printed(*frames) == [1, 2, 3]


async def test_what_was_told_before_the_join_ended_is_not_printed_after_it(printed):
    frames = (message(3), message(4), joined(4), message(4), message(5))
    assert await printed(*frames, after=2) == [3, 4, 5]


async def test_messages_of_other_conversations_do_not_count(printed):
    frames = (message(7, OTHER), message(8, OTHER), joined(0), message(1), message(2), message(3))
    assert await printed(*frames, messages=2) == [7, 8, 1, 2]


async def test_it_ends_only_when_all_that_was_before_is_printed(printed):
    frames = (message(1), message(2), joined(2), message(3))
    assert await printed(*frames, messages=1) == [1, 2]


async def test_without_a_conversation_all_messages_count(printed):
    frames = (message(7), message(3, OTHER), message(8))
    assert await printed(*frames, conversation=None, messages=2) == [7, 3]
