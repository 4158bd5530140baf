"""Files on a real stack: inspected before they are sent, read at once by members, whatever dies meanwhile."""

from __future__ import annotations

import asyncio
import io

import httpx2
import psycopg
from PIL import Image

from stack.running import RunningStack

from .conftest import Person, kill, process, settled, until
from .test_front_doors import upload


def picture(shade: int) -> bytes:
    """Return a picture of its own: equal bytes would be known already."""
    raw = io.BytesIO()
    Image.new("RGB", (900, 600), (20, shade, 60)).save(raw, "JPEG")
    return raw.getvalue()


def is_inspected(who: Person, media_id: str) -> bool:
    return who.http.get(f"/media/{media_id}/thumbnail").status_code == 200


async def test_a_message_carries_what_is_known_of_its_file_and_members_read_it_at_once(stack: RunningStack, person):
    alice, bob = person("alice"), person("bob")
    room = alice.create(bob.user)
    content = picture(1)
    media_id = upload(alice, content, "mill.jpg")
    await asyncio.to_thread(until, lambda: is_inspected(alice, media_id))
    assert bob.http.get(f"/media/{media_id}").status_code == 404
    async with bob.live() as at_bob:
        await at_bob.say(type="join_conversation", id=room, after=0)
        await at_bob.next("joined")
        body = {"conversationId": room, "type": "image", "attachments": [media_id], "clientMessageId": "mill"}
        assert alice.http.post("/messages", json=body).status_code == 201
        # Read before anything else has happened to the message.
        file = bob.http.get(f"/media/{media_id}")
        assert (file.status_code, file.headers["content-type"]) == (200, "image/jpeg")
        assert bob.http.get(f"/media/{media_id}/thumbnail").status_code == 200
        message = (await at_bob.next("new_message"))["message"]
        ready = await at_bob.next("media_ready")
    [attachment] = message["attachments"]
    assert (attachment["mediaId"], attachment["name"], attachment["type"]) == (media_id, "mill.jpg", "image/jpeg")
    assert (attachment["size"], attachment["width"], attachment["height"]) == (len(content), 900, 600)
    assert attachment["thumbnail"] is True
    assert (ready["name"], ready["size"], ready["width"], ready["available"]) == ("mill.jpg", len(content), 900, True)
    assert alice.http.post("/messages", json=body).headers["idempotent-replayed"] == "true"
    assert bob.http.get(f"/messages/{message['messageId']}").json()["attachments"] == [attachment]
    assert settled(stack, room)["by"]["media"]["checked"] == 1


def test_an_upload_is_inspected_though_processes_die(stack: RunningStack, person):
    alice, bob = person("alice"), person("bob")
    room = alice.create(bob.user)
    kill(stack, "media")
    media_id = upload(alice, picture(2), "mill.jpg")
    restarts = process(stack, "ingest")["restarts"]
    kill(stack, "ingest")
    until(lambda: process(stack, "ingest")["restarts"] > restarts)
    until(lambda: answers(alice), 60)
    until(lambda: is_inspected(alice, media_id), 60)
    alice.send(room, "", attachments=[media_id])
    assert bob.http.get(f"/media/{media_id}").status_code == 200
    second = upload(alice, picture(3), "second.jpg")
    alice.send(room, "", attachments=[second])
    kill(stack, "media")
    until(lambda: is_inspected(bob, second), 60)
    settled(stack, room)
    with psycopg.connect(stack.pg_dsn) as conn:
        query = "SELECT data->>'mediaId' FROM changes WHERE conversation_id = %s AND kind = 'media_ready' ORDER BY seq"
        assert [row[0] for row in conn.execute(query, [room]).fetchall()] == [media_id, second]


def answers(who: Person) -> bool:
    try:
        return who.http.get("/limits").status_code == 200
    except httpx2.HTTPError:
        return False
