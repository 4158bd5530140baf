"""Reading on one device, as the other device, the badge and the notifications see it, on a running stack."""

from __future__ import annotations

from typing import Any

from tests.e2e.conftest import Person, until


def unseen(person: Person) -> list[int]:
    """Seqs of the messages whose notifications are open, newest first."""
    found = person.http.get("/notifications", params={"unseen": "true"}).json()["notifications"]
    return [notification["message"]["seq"] for notification in found]


def badge(person: Person) -> tuple[int, int]:
    """Unread messages, and the conversations that have any."""
    total = person.http.get("/conversations", params={"limit": 1}).json()["total"]
    return total["unread"], total["conversations"]


async def read_mark(socket: Any, user: str) -> int:
    """The next read watermark of the user that a socket is told of."""
    while True:
        frame = await socket.next("message_status")
        if (frame["userId"], frame["status"]) == (user, "read"):
            return int(frame["readSeq"])


async def test_what_is_read_over_http_is_read_on_the_other_device(person):
    alice, bob = person("alice"), person("bob")
    room = alice.create(bob.user)
    for _ in range(3):
        alice.send(room, "are you there?")
    until(lambda: unseen(bob) == [3, 2, 1])
    assert badge(bob) == (3, 1)
    async with bob.live() as phone:
        answer = bob.http.post(f"/conversations/{room}/receipts", json={"readSeq": 2, "device": "desk"})
        assert answer.status_code == 204
        assert await read_mark(phone, bob.user) == 2
        assert (unseen(bob), badge(bob)) == ([3], (1, 1))
        listed = bob.http.get("/notifications").json()["notifications"]
        assert [notification["seenAt"] is None for notification in listed] == [True, False, False]


async def test_who_answers_has_read_at_once_and_the_others_are_told(person):
    alice, bob = person("alice"), person("bob")
    room = alice.create(bob.user)
    sent = [alice.send(room) for _ in range(2)]
    until(lambda: unseen(bob) == [2, 1])
    async with alice.live() as at_alice, bob.live() as phone:
        bob.send(room, "yes")
        assert (badge(bob), unseen(bob)) == ((0, 0), [])
        assert await read_mark(at_alice, bob.user) == 3
        assert await read_mark(phone, bob.user) == 3
    assert [alice.http.get(f"/messages/{one['messageId']}").json()["status"] for one in sent] == ["read", "read"]
    assert badge(alice) == (1, 1)


async def test_what_is_read_on_a_socket_closes_the_notifications(person):
    alice, bob = person("alice"), person("bob")
    room = alice.create(bob.user)
    alice.send(room)
    until(lambda: unseen(bob) == [1])
    async with bob.live() as phone, bob.live() as desk:
        await phone.say(type="join_conversation", id=room, after=0)
        await phone.next("joined")
        await phone.say(type="read", conversationId=room, seq=1)
        assert await read_mark(desk, bob.user) == 1
        assert (unseen(bob), badge(bob)) == ([], (0, 0))
