"""The whole stack through HTTP and WebSocket, with real servers and real processes."""

from __future__ import annotations

import base64
import io
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from PIL import Image

from schemas.ids import new_id
from stack.running import RunningStack

from .conftest import Person, status, until

PLAIN = {"content-type": "text/plain"}
NOBODYS = "01900000-0000-7000-8000-00000000dead"
HELLO = {"type": "text", "content": "hello"}


def problem(answer: httpx2.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    said = answer.json()
    assert said["status"] == answer.status_code
    assert said["detail"]
    return answer.status_code, said["code"]


def test_everything_is_ready(stack: RunningStack):
    said = status(stack)
    assert said["state"] == "ready"
    names = {p["name"] for p in said["processes"]}
    assert {"ingest", "gateway", "status", "notification", "media", "search", "analytics"} <= names


def test_a_retry_is_the_same_message_and_another_content_is_not(person):
    alice = person("alice")
    room = alice.create("bob")
    body = {"conversationId": room, "type": "text", "content": "once", "clientMessageId": "k"}
    first = alice.http.post("/messages", json=body)
    again = alice.http.post("/messages", json=body)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.headers["idempotent-replayed"] == "true"
    assert first.json() == again.json()
    assert problem(alice.http.post("/messages", json={**body, "content": "twice"})) == (422, "idempotency_mismatch")


def test_twenty_parallel_posts_of_one_key_make_one_message(person):
    alice = person("alice")
    room = alice.create("bob")
    body = {"conversationId": room, "type": "text", "content": "once"}

    def post(_: int) -> httpx2.Response:
        while True:
            answer = alice.http.post("/messages", json=body, headers={"Idempotency-Key": "parallel"})
            if answer.status_code != 503:
                return answer

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(post, range(20)))
    assert {a.status_code for a in answers} <= {200, 201}
    assert len({a.json()["messageId"] for a in answers}) == 1
    page = alice.http.get(f"/conversations/{room}/messages").json()
    assert (len(page["messages"]), page["headSeq"]) == (1, 1)


@pytest.mark.parametrize(
    ("method", "path", "more", "expected"),
    [
        ("GET", "/nothing/here", {}, (404, "not_found")),
        ("PUT", "/messages", {}, (405, "method_not_allowed")),
        ("POST", "/messages", {"content": b"{}", "headers": PLAIN}, (415, "unsupported_media_type")),
        ("POST", "/messages", {"content": b"{", "headers": {"content-type": "application/json"}}, (422, "invalid")),
        ("POST", "/messages", {"json": {"content": "x" * 70_000}}, (413, "payload_too_large")),
        ("POST", "/messages", {"json": {**HELLO, "conversationId": NOBODYS}}, (404, "not_found")),
        ("GET", f"/conversations/{NOBODYS}", {}, (404, "not_found")),
        ("GET", f"/conversations/{NOBODYS}/messages", {}, (404, "not_found")),
        ("GET", "/search?q=", {}, (422, "invalid")),
        ("GET", "/conversations?limit=999", {}, (422, "invalid")),
        ("GET", "/conversations?cursor=zzz", {}, (422, "invalid")),
        ("POST", "/no-such-call", {}, (404, "not_found")),
    ],
)  # fmt: skip
def test_bad_input_is_a_problem_with_a_code(person, method, path, more, expected):
    assert problem(person("alice").http.request(method, path, **more)) == expected


def test_a_body_without_a_length_is_counted_as_it_comes(person):
    def parts():
        for _ in range(100):
            yield b"x" * 1000

    answer = person("a").http.post("/messages", content=parts(), headers={"content-type": "application/json"})
    assert problem(answer) == (413, "payload_too_large")


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer x.y.z"}, {"Authorization": "Basic YTpi"}])
def test_without_a_good_token_nothing_is_told(stack: RunningStack, header):
    answer = httpx2.get(f"{stack.http_url}/conversations", headers=header)
    assert problem(answer) == (401, "unauthenticated")
    challenge = 'Bearer error="invalid_token"' if header.get("Authorization", "").startswith("Bearer") else "Bearer"
    assert answer.headers["www-authenticate"] == challenge


def test_pages_of_messages_and_of_conversations(person):
    alice = person("alice")
    rooms = [alice.create() for _ in range(3)]
    for n in range(5):
        alice.send(rooms[0], str(n))
    url = f"/conversations/{rooms[0]}/messages"
    newest = alice.http.get(url, params={"limit": 2}).json()
    assert ([m["seq"] for m in newest["messages"]], newest["hasMore"]) == ([4, 5], True)
    older = alice.http.get(url, params={"limit": 3, "before": 4}).json()
    assert ([m["seq"] for m in older["messages"]], older["hasMore"]) == ([1, 2, 3], False)
    after = alice.http.get(url, params={"after": 2, "limit": 2}).json()
    assert ([m["seq"] for m in after["messages"]], after["hasMore"]) == ([3, 4], True)
    seen, cursor = [], None
    while True:
        query = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = alice.http.get("/conversations", params=query).json()
        seen += [c["conversationId"] for c in page["conversations"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == [rooms[0], rooms[2], rooms[1]]


async def test_a_message_is_accepted_sent_delivered_and_read(person):
    alice, bob = person("alice"), person("bob")
    room = alice.create(bob.user)
    async with alice.live() as at_alice, bob.live() as at_bob:
        for socket in (at_alice, at_bob):
            await socket.say(type="join_conversation", id=room, after=0)
            assert (await socket.next("joined"))["seq"] == 0
        sent = alice.send(room, "hello")
        said = await at_bob.next("new_message")
        assert (said["seq"], said["message"]["messageId"], said["message"]["content"]) == (
            1,
            sent["messageId"],
            "hello",
        )
        await at_bob.say(type="ack", messageId=sent["messageId"])
        told = await at_alice.next("message_status")
        assert (told["status"], told["userId"], told["messageId"]) == ("delivered", bob.user, sent["messageId"])
        await at_bob.say(type="read", conversationId=room, seq=1)
        while (await at_alice.next("message_status"))["status"] != "read":
            pass
    assert alice.http.get(f"/messages/{sent['messageId']}").json()["status"] == "read"
    [receipt] = alice.http.get(f"/messages/{sent['messageId']}/receipts").json()["receipts"]
    assert (receipt["userId"], receipt["status"]) == (bob.user, "read")
    [line] = bob.http.get("/conversations").json()["conversations"]
    assert (line["unread"], line["myReadSeq"]) == (0, 1)


def test_a_client_without_a_socket_says_how_far_it_has_got(person):
    alice, bob, eve = person("alice"), person("bob"), person("eve")
    room = alice.create(bob.user)
    sent = [alice.send(room) for _ in range(3)]
    path = f"/conversations/{room}/receipts"

    def said(**receipt: object) -> int:
        return bob.http.post(path, json=receipt).status_code

    def statuses() -> list[str]:
        return [alice.http.get(f"/messages/{one['messageId']}").json()["status"] for one in sent]

    def watermarks() -> tuple[int, int]:
        members = alice.http.get(f"/conversations/{room}").json()["members"]
        return next((m["deliveredSeq"], m["readSeq"]) for m in members if m["userId"] == bob.user)

    until(lambda: statuses() == ["sent"] * 3)
    assert said(deliveredSeq=2, device="phone") == 204
    until(lambda: statuses() == ["delivered", "delivered", "sent"])
    assert said(deliveredSeq=1, readSeq=1) == 204
    until(lambda: statuses() == ["read", "delivered", "sent"])
    assert watermarks() == (2, 1)
    assert said(readSeq=3, device="desk") == 204
    assert said(readSeq=3, device="desk") == 204
    until(lambda: statuses() == ["read"] * 3)
    assert said(deliveredSeq=1, device="phone") == 204
    [mine] = bob.http.get("/conversations").json()["conversations"]
    assert (mine["unread"], mine["myReadSeq"], watermarks()) == (0, 3, (3, 3))
    for bad in ({"deliveredSeq": 4}, {"readSeq": 9}, {}, {"readSeq": -1}, {"readSeq": 1, "device": "a b"}):
        assert problem(bob.http.post(path, json=bad)) == (422, "invalid")
    assert problem(eve.http.post(path, json={"readSeq": 1})) == (404, "not_found")


async def test_a_member_that_has_not_joined_gets_a_hint(person):
    alice, bob = person("alice"), person("bob")
    async with bob.live() as at_bob:
        room = alice.create(bob.user)
        assert (await at_bob.next("conversation_changed"))["change"] == "created"
        alice.send(room, "psst")
        said = await at_bob.next("new_message")
        assert (said["conversationId"], said["message"]["content"]) == (room, "psst")


async def test_membership_takes_seqs_and_effect(person):
    alice, bob, carol = person("alice"), person("bob"), person("carol")
    room = alice.create(bob.user)
    async with carol.live() as at_carol:
        answer = alice.http.post(f"/conversations/{room}/members", json={"userId": carol.user})
        assert answer.status_code == 204
        assert (await at_carol.next("conversation_changed"))["change"] == "member_added"
        await at_carol.say(type="join_conversation", id=room, after=0)
        assert (await at_carol.next("conversation_changed"))["seq"] == 1
        await at_carol.next("joined")
        assert problem(bob.http.delete(f"/conversations/{room}/members/{carol.user}")) == (403, "forbidden")
        assert carol.http.delete(f"/conversations/{room}/members/{carol.user}").status_code == 204
        said = await at_carol.next("conversation_changed")
        assert (said["seq"], said["change"]) == (2, "member_removed")
        assert alice.send(room, "gone?")["seq"] == 3
        await at_carol.say(type="ping")
        assert (await at_carol.next("new_message", "pong"))["type"] == "pong"
    assert problem(carol.http.get(f"/conversations/{room}/messages")) == (404, "not_found")


def test_who_is_away_finds_a_notification(person):
    alice, bob = person("alice"), person("bob")
    room = alice.create(bob.user)
    sent = alice.send(room, "are you there?")
    [notice] = until(lambda: bob.http.get("/notifications", params={"unseen": "true"}).json()["notifications"])
    assert (notice["message"]["messageId"], notice["channel"], notice["seenAt"]) == (sent["messageId"], "in_app", None)
    assert bob.http.post("/notifications/seen", json={"upTo": notice["notificationId"]}).status_code == 204
    assert bob.http.get("/notifications", params={"unseen": "true"}).json()["notifications"] == []
    assert alice.http.get("/notifications").json()["notifications"] == []


def test_what_was_said_can_be_found_and_is_counted(person):
    alice, bob, eve = person("alice"), person("bob"), person("eve")
    room, word = alice.create(bob.user), f"mill{new_id()[-6:]}"
    alice.send(room, f"the {word} turns")
    [hit] = until(lambda: bob.http.get("/search", params={"q": word}).json()["hits"])
    assert (hit["message"]["conversationId"], hit["highlight"]) == (room, f"the <mark>{word}</mark> turns")
    assert eve.http.get("/search", params={"q": word}).json()["hits"] == []
    [minute] = until(lambda: alice.http.get(f"/conversations/{room}/analytics").json()["minutes"])
    assert minute["messages"] == 1
    assert problem(eve.http.get(f"/conversations/{room}/analytics")) == (404, "not_found")


def upload(who: Person, content: bytes, name: str) -> str:
    tus = {"Tus-Resumable": "1.0.0"}
    about = {
        "Upload-Length": str(len(content)),
        "Upload-Metadata": f"filename {base64.b64encode(name.encode()).decode()}",
    }
    made = who.http.post("/media", headers={**tus, **about})
    assert made.status_code == 201, made.text
    path = "/media/" + made.headers["location"].rsplit("/", 1)[1]
    half = len(content) // 2
    kind = {**tus, "Content-Type": "application/offset+octet-stream"}
    first = who.http.patch(path, content=content[:half], headers={**kind, "Upload-Offset": "0"})
    assert first.status_code == 204, first.text
    assert who.http.head(path, headers=tus).headers["upload-offset"] == str(half)
    rest = who.http.patch(path, content=content[half:], headers={**kind, "Upload-Offset": str(half)})
    assert rest.status_code == 204, rest.text
    return path.rsplit("/", 1)[1]


async def test_an_uploaded_picture_is_cleaned_shrunk_and_told(person):
    alice, bob, eve = person("alice"), person("bob"), person("eve")
    room = alice.create(bob.user)
    exif, raw = Image.Exif(), io.BytesIO()
    exif[0x010E] = "my address"
    Image.new("RGB", (900, 600), (20, 120, 60)).save(raw, "JPEG", exif=exif)
    media_id = upload(alice, raw.getvalue(), "mill.jpg")
    assert problem(bob.http.get(f"/media/{media_id}")) == (404, "not_found")
    async with bob.live() as at_bob:
        await at_bob.say(type="join_conversation", id=room, after=0)
        await at_bob.next("joined")
        answer = alice.http.post(
            "/messages", json={"conversationId": room, "type": "image", "content": "", "attachments": [media_id]}
        )
        assert answer.status_code == 201, answer.text
        assert (await at_bob.next("new_message", "media_ready"))["seq"] == 1
        ready = await at_bob.next("new_message", "media_ready")
        assert (ready["type"], ready["seq"], ready["mediaId"], ready["width"]) == ("media_ready", 2, media_id, 900)
    clean = bob.http.get(f"/media/{media_id}")
    assert (clean.status_code, clean.headers["content-type"]) == (200, "image/jpeg")
    assert b"my address" not in clean.content
    small = bob.http.get(f"/media/{media_id}/thumbnail")
    assert Image.open(io.BytesIO(small.content)).size == (320, 213)
    assert problem(eve.http.get(f"/media/{media_id}/thumbnail")) == (404, "not_found")
    mine = {"conversationId": room, "type": "image", "attachments": [media_id]}
    assert problem(bob.http.post("/messages", json=mine)) == (422, "invalid")  # somebody else's upload
