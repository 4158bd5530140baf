"""Every HTTP call once as it is meant, over the real application on twins; each answer has its documented form."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from domain.analytics import MinuteCount
from domain.media import MediaInfo
from domain.notifications import NotificationDraft
from domain.watermarks import Watermark
from schemas.clock import now
from schemas.fields import ACTIONS
from schemas.ids import is_uuid, new_id
from schemas.routes import OPERATIONS
from tests import make
from tests.flow.api import Api, open_api

TUS = {"tus-resumable": "1.0.0"}


DOCUMENTED = {(operation.id, status) for operation in OPERATIONS for status in operation.replies}


@pytest.fixture(scope="module")
def seen(request: pytest.FixtureRequest) -> Iterator[set[tuple[str, int]]]:
    """Operations with their statuses, as the tests of this file see them: when all of them run, all that succeed."""
    made: set[tuple[str, int]] = set()
    yield made
    here = {item.name for item in request.session.items if item.path == request.path}
    if here == {name for name in vars(request.module) if name.startswith("test_")}:
        assert made >= DOCUMENTED


@pytest.fixture
async def api(tmp_path: Path, seen: set[tuple[str, int]]) -> AsyncIterator[Api]:
    async with open_api(tmp_path) as opened:
        yield opened
        seen |= opened.seen


async def send(api: Api, content: str = "hi", *, user: str = "alice", **more: object) -> dict:
    message = {"conversationId": make.ROOM, "type": "text", "content": content, **more}
    return (await api.call("sendMessage", 201, user=user, json=message)).json()


async def upload(api: Api, content: bytes, *, user: str = "alice", name: str = "a b.png") -> str:
    """The id of a file that was uploaded in two parts."""
    metadata = f"filename {base64.b64encode(name.encode()).decode()}"
    begun = await api.call(
        "createUpload", 201, user=user, headers={**TUS, "upload-length": str(len(content)), "upload-metadata": metadata}
    )
    media_id = begun.headers["location"].rpartition("/")[2]
    half = len(content) // 2
    for start, part in ((0, content[:half]), (half, content[half:])):
        at = await api.call("getUpload", 204, user=user, path={"id": media_id}, headers=TUS)
        assert at.headers["upload-offset"] == str(start)
        headers = {**TUS, "upload-offset": str(start), "content-type": "application/offset+octet-stream"}
        await api.call("continueUpload", 204, user=user, path={"id": media_id}, headers=headers, content=part)
    return media_id


async def test_a_page_begins_anew_where_its_cursor_does_not_hold_any_more(api):
    async def page(**query: object) -> tuple[list[int], int | None]:
        found = (await api.call("listMessages", 200, path={"id": make.ROOM}, params=query)).json()
        assert found["epoch"] == api.tables.epochs.id
        return [message["seq"] for message in found["messages"]], found["resetFrom"]

    for _ in range(2):
        await send(api)
    before = api.tables.epochs.id
    api.tables.epochs.begin("2-restored")
    for _ in range(2):
        await send(api)
    assert await page(after=1, epoch=before) == ([2, 3, 4], None)
    assert await page(after=3, epoch=before) == ([3, 4], 2)
    assert await page(after=3, epoch="2-restored") == ([4], None)
    assert await page(after=9) == ([], 4)
    assert await page(after=1, epoch="9-unknown") == ([1, 2, 3, 4], 0)
    assert await page(epoch=before) == ([1, 2, 3, 4], None)


async def test_a_conversation_is_created_listed_and_read(api):
    created = await api.call("createConversation", 201, json={"title": "Zoe\u0308", "members": ["bob", "alice", "bob"]})
    room = created.json()["conversationId"]
    assert created.headers["location"] == f"/conversations/{room}"
    assert created.json() == {
        "conversationId": room,
        "title": "Zoe\u0308",
        "members": ["alice", "bob"],
        "headSeq": 0,
        "invited": [],
    }
    read = (await api.call("getConversation", 200, path={"id": room}, user="bob")).json()
    assert [(member["userId"], member["role"]) for member in read["members"]] == [("alice", "owner"), ("bob", "member")]
    await send(api, "first", conversationId=room)
    first = (await api.call("listConversations", 200, user="bob", params={"limit": 1})).json()
    [line] = first["conversations"]
    assert (line["conversationId"], line["unread"], line["lastMessage"]["content"]) == (room, 1, "first")
    rest = (await api.call("listConversations", 200, user="bob", params={"cursor": first["next"]})).json()
    assert ([line["conversationId"] for line in rest["conversations"]], rest["next"]) == ([make.ROOM], None)
    assert api.changed == [room, room]


async def test_a_conversation_may_have_an_id_of_the_callers_choice(api):
    room = new_id()
    created = await api.call("createConversation", 201, json={"conversationId": room})
    assert created.json() == {"conversationId": room, "title": None, "members": ["alice"], "headSeq": 0, "invited": []}


async def test_the_same_creation_again_finds_the_first(api):
    body = {"conversationId": new_id(), "members": ["bob"]}
    first = await api.call("createConversation", 201, json=body)
    again = await api.call("createConversation", 200, json=body)
    assert again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"


async def test_an_invited_user_becomes_a_member_by_accepting(api):
    for user, answer in (("dave", "accept"), ("erin", "decline")):
        await api.call("inviteMember", 202, json={"userId": user})
        await api.call("addMember", 202, json={"userId": user})
        [entry] = (await api.call("listInvitations", 200, user=user)).json()["invitations"]
        assert (entry["conversationId"], entry["invitedBy"], entry["memberCount"]) == (
            make.ROOM,
            "alice",
            3 if user == "dave" else 4,
        )
        await api.call(f"{answer}Invitation", 204, user=user)
    await api.call("inviteMember", 204, json={"userId": "dave"})
    await api.call("getConversation", 200, user="dave")
    await api.call("getConversation", 404, user="erin")


async def test_members_come_and_go(api):
    for _ in range(2):
        await api.call("addMember", 204, json={"userId": "dave"})
    await api.call("getConversation", 200, user="dave")
    for _ in range(2):
        await api.call("removeMember", 204, path={"userId": "dave"})
    await api.call("removeMember", 204, user="bob", path={"userId": "bob"})
    assert [change.kind for change in api.tables.changes[make.ROOM]] == [
        "member_added",
        "member_removed",
        "member_removed",
    ]
    assert set(api.changed) == {make.ROOM}


async def test_a_message_is_stored_once_however_often_it_is_sent(api):
    message = {"conversationId": make.ROOM, "type": "text", "content": "hi", "clientMessageId": "k-1"}
    first = await api.call("sendMessage", 201, json=message)
    assert "idempotent-replayed" not in first.headers
    del message["clientMessageId"]
    again = await api.call("sendMessage", 200, json=message, headers={"idempotency-key": "k-1"})
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json() == first.json()
    assert (first.json()["seq"], first.json()["status"]) == (1, "sent")
    assert api.changed == [make.ROOM]


async def test_messages_are_read_by_seq_from_either_end(api):
    sent = [await send(api, str(number)) for number in range(5)]
    read = (await api.call("getMessage", 200, user="bob", path={"id": sent[0]["messageId"]})).json()
    assert read == {
        "messageId": sent[0]["messageId"],
        "conversationId": make.ROOM,
        "seq": 1,
        "senderId": "alice",
        "type": "text",
        "content": "0",
        "attachments": [],
        "replyTo": None,
        "createdAt": sent[0]["createdAt"],
        "status": "pending",
    }

    async def page(**query: int) -> tuple[list[int], bool]:
        body = (await api.call("listMessages", 200, params=query)).json()
        assert body["headSeq"] == 5
        return [message["seq"] for message in body["messages"]], body["hasMore"]

    assert await page() == ([1, 2, 3, 4, 5], False)
    assert await page(limit=2) == ([4, 5], True)
    assert await page(before=3, limit=1) == ([2], True)
    assert await page(after=0, limit=2) == ([1, 2], True)
    assert await page(after=1, before=4) == ([2, 3], False)


async def test_a_receipt_is_owed_and_read_once_it_is_folded(api):
    sent = await send(api)
    await api.call("recordReceipt", 204, user="bob", json={"readSeq": 1, "device": "phone"})
    [owed] = [row.event for (_, _, part), row in api.tables.outbox.items() if part]
    assert (owed.user_id, owed.delivered_seq, owed.read_seq, owed.device) == ("bob", 1, 1, "phone")
    await api.statuses.advance([Watermark(make.ROOM, "bob", 1, 1)], 32)
    answer = await api.call("listMessageReceipts", 200, path={"id": sent["messageId"]})
    bob, carol = answer.json()["receipts"]
    assert (bob["userId"], bob["status"], carol["userId"], carol["status"]) == ("bob", "read", "carol", "sent")
    assert bob["readAt"] is not None
    assert carol["deliveredAt"] is None


async def test_search_finds_messages_in_pages(api):
    ids = [(await send(api, f"fox {number}"))["messageId"] for number in range(3)]
    await api.index.refresh(ids)
    query = {"q": "fox", "conversationId": make.ROOM, "from": "alice", "after": "2026-01-01T00:00:00+02:00", "limit": 2}
    first = (await api.call("searchMessages", 200, user="bob", params=query)).json()
    rest = (await api.call("searchMessages", 200, user="bob", params={**query, "cursor": first["next"]})).json()
    hits = [*first["hits"], *rest["hits"]]
    assert [hit["message"]["messageId"] for hit in hits] == sorted(ids, reverse=True)
    assert {hit["highlight"].partition(" ")[0] for hit in hits} == {"<mark>fox</mark>"}
    assert rest["next"] is None
    past = (await api.call("searchMessages", 200, params={"q": "fox", "before": "2026-01-01T00:00:00 00:00"})).json()
    assert past == {"hits": [], "next": None, "corrected": []}


async def test_notifications_are_listed_and_seen(api):
    ids = sorted(new_id() for _ in range(3))
    for id_ in ids:
        message = await send(api)
        notice = NotificationDraft(id_, message["messageId"], make.ROOM, message["seq"], "bob")
        await api.notifications.add([notice])
    first = (await api.call("listNotifications", 200, user="bob", params={"limit": 2})).json()
    rest = (await api.call("listNotifications", 200, user="bob", params={"cursor": first["next"]})).json()
    assert [n["notificationId"] for n in (*first["notifications"], *rest["notifications"])] == ids[::-1]
    await api.call("markNotificationsSeen", 204, user="bob", json={"upTo": ids[1]})
    for flag in ("", "true", "1", "TRUE"):
        unseen = (await api.call("listNotifications", 200, user="bob", params={"unseen": flag})).json()
        assert [n["notificationId"] for n in unseen["notifications"]] == ids[2:], flag
    everything = (await api.call("listNotifications", 200, user="bob", params={"unseen": "false"})).json()
    assert [n["seenAt"] is None for n in everything["notifications"]] == [True, False, False]


async def test_analytics_count_messages_by_minute(api):
    await api.counts.add([MinuteCount(make.ROOM, seq, f"2026-11-24T15:0{seq}:00.000Z") for seq in (1, 2, 3)])

    async def minutes(**query: str | int) -> list[str]:
        body = (await api.call("getAnalytics", 200, user="bob", params=query)).json()
        assert body["conversationId"] == make.ROOM
        return [row["minute"][14:16] for row in body["minutes"]]

    assert await minutes() == ["03", "02", "01"]
    assert await minutes(limit=1) == ["03"]
    assert await minutes(**{"from": "2026-11-24T15:02:00Z", "to": "2026-11-24T15:03:00Z"}) == ["02"]


async def test_a_ticket_holds_for_half_a_minute(api):
    answer = (await api.call("issueTicket", 201, headers={"origin": "https://chat.example"})).json()
    left = datetime.fromisoformat(answer["expiresAt"]) - datetime.fromisoformat(now())
    assert timedelta(seconds=20) < left <= timedelta(seconds=31)


async def test_a_file_is_uploaded_in_parts_attached_and_read_by_members(api):
    await api.call("describeUploads", 204)
    media_id = await upload(api, b"0123456789")
    assert is_uuid(media_id)
    original = await api.call("getMedia", 200, path={"id": media_id})
    assert original.content == b"0123456789"
    assert original.headers["content-type"] == "application/octet-stream"
    assert original.headers["content-disposition"] == "attachment; filename=\"a b.png\"; filename*=UTF-8''a%20b.png"
    assert original.headers["content-security-policy"].startswith("sandbox")
    await api.problem("getMedia", 404, user="bob", path={"id": media_id})
    sent = await send(api, "", attachments=[media_id])
    assert (await api.problem("getMedia", 409, user="bob", path={"id": media_id}))["code"] == "media_not_ready"
    media = await api.media.get(media_id)
    look = MediaInfo(media_type="image/png", width=4, height=3, clean=b"clean", thumbnail=b"small", served="clean")
    await api.media.save_probe(media.sha256, look)
    [early] = (await api.call("getMessage", 200, path={"id": sent["messageId"]})).json()["attachments"]
    unknown = dict.fromkeys(("width", "height", "durationMs", "blurhash"))
    assert early == {
        "mediaId": media_id,
        "name": "a b.png",
        "type": "application/octet-stream",
        "size": 10,
        **unknown,
        "thumbnail": False,
    }
    late = await send(api, "", user="alice", attachments=[media_id])
    [known] = (await api.call("getMessage", 200, user="bob", path={"id": late["messageId"]})).json()["attachments"]
    assert known == {**early, "type": "image/png", "width": 4, "height": 3, "thumbnail": True}
    await api.blobs.put(f"{media.sha256}/clean", b"clean")
    await api.blobs.put(f"{media.sha256}/thumbnail", b"small")
    clean = await api.call("getMedia", 200, user="bob", path={"id": media_id})
    assert (clean.content, clean.headers["content-type"]) == (b"clean", "image/png")
    small = await api.call("getThumbnail", 200, user="bob", path={"id": media_id})
    assert (small.content, small.headers["content-type"]) == (b"small", "image/webp")
    await api.problem("getThumbnail", 404, user="eve", path={"id": media_id})
    url = (await api.call("signMediaUrl", 201, user="bob", path={"id": media_id})).json()["url"]
    query = {"params": url.partition("?")[2], "user": None}
    await api.call("getUpload", 200, user="bob", path={"id": media_id})
    await api.call("getUpload", 304, user="bob", path={"id": media_id}, headers={"if-none-match": "*"})
    for operation, more in (("getMedia", {}), ("getThumbnail", {}), ("getSignedMedia", query)):
        await api.call(operation, 200, path={"id": media_id}, **more)
        await api.call(operation, 206, path={"id": media_id}, headers={"range": "bytes=0-1"}, **more)
        await api.call(operation, 304, path={"id": media_id}, headers={"if-none-match": "*"}, **more)


async def test_the_budgets_of_a_caller_are_read(api):
    budgets = (await api.call("getLimits", 200)).json()["limits"]
    assert {budget["action"] for budget in budgets} == set(ACTIONS)
    assert {budget["limit"] for budget in budgets} == {None}


async def test_an_upload_belongs_to_who_began_it(api):
    begun = await api.call("createUpload", 201, headers={**TUS, "upload-length": "4", "millrace-owner": "bob"})
    path = {"id": begun.headers["location"].rpartition("/")[2]}
    await api.call("describeUpload", 204, path=path)
    await api.call("getUpload", 204, path=path, headers=TUS)
    await api.call("getUpload", 404, user="bob", path=path, headers=TUS)
    await api.problem("endUpload", 404, user="bob", path=path, headers=TUS)
    headers = {**TUS, "upload-offset": "0", "content-type": "application/offset+octet-stream"}
    await api.problem("continueUpload", 404, user="bob", path=path, headers=headers, content=b"mine")
    await api.call("endUpload", 204, path=path, headers=TUS)
