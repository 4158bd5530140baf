"""Steps on memberships and invitations that several calls share. The caller holds the conversation's lock."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from adapters.postgres import change_log
from adapters.postgres.pool import Connection
from adapters.postgres.statements import load
from domain.changes import membership_entry
from domain.conversations import check_change
from domain.errors import Conflict
from domain.policy import Standing, check_invitations, standing_of
from schemas.clock import wire_time
from schemas.fields import MAX_MEMBERS
from schemas.messages import ChangeKind

_CONVERSATIONS, _INVITATIONS, _NOTIFICATIONS = load("conversations"), load("invitations"), load("notifications")


async def lock_for(conn: Connection, kind: ChangeKind, conversation_id: str, user_id: str, by: str) -> int:
    """Lock the conversation and return its head; check that ``by`` may make this change of ``user_id``.

    Raises NotFound, Forbidden, Conflict.
    """
    head = await change_log.lock(conn, conversation_id)
    fields = {"conversation_id": conversation_id, "by": by}
    role = await (await conn.execute(_CONVERSATIONS["role"], fields)).fetchone()
    check_change(kind, role[0] if role else None, user_id=user_id, by=by)
    assert head is not None, "a conversation with a member exists"
    return head


async def standing(conn: Connection, conversation_id: str, user_id: str) -> Standing:
    """Return how the user stands to the conversation."""
    fields = {"conversation_id": conversation_id, "user_id": user_id}
    row = await (await conn.execute(_INVITATIONS["standing"], fields)).fetchone()
    assert row is not None, "a SELECT without FROM has one row"
    return standing_of(user_id, is_member=row[0], is_invited=row[1], ended_by=row[2])


async def join(conn: Connection, conversation_id: str, user_id: str, by: str, *, head: int, reads_older: bool) -> None:
    """Make a user who is none a member, behind the head. Raises Conflict when the conversation is full."""
    place = {"conversation_id": conversation_id, "user_id": user_id}
    hidden_up_to = 0 if reads_older else head
    await conn.execute(_CONVERSATIONS["add_member"], {**place, "seq": head + 1, "hidden_up_to": hidden_up_to})
    await conn.execute(_CONVERSATIONS["forget_former"], place)
    await conn.execute(_NOTIFICATIONS["close_before"], place)
    await _count_member(conn, conversation_id, 1)
    added = ChangeKind.MEMBER_ADDED
    await note(conn, added, conversation_id, user_id, by, head=head, hidden_up_to=hidden_up_to)


async def leave(conn: Connection, conversation_id: str, user_id: str, by: str, *, head: int) -> None:
    """End a membership, and remember who ended it."""
    place = {"conversation_id": conversation_id, "user_id": user_id}
    await conn.execute(_CONVERSATIONS["remove_member"], place)
    await conn.execute(_CONVERSATIONS["remember_former"], {**place, "by": by})
    await _count_member(conn, conversation_id, -1)
    await note(conn, ChangeKind.MEMBER_REMOVED, conversation_id, user_id, by, head=head)


async def invite(conn: Connection, conversation_id: str, users: Sequence[str], by: str, most: int) -> None:
    """Store invitations, unless too many of the inviter are open. Raises Conflict."""
    await conn.execute(_INVITATIONS["lock_inviter"], {"by": by})
    found = await (await conn.execute(_INVITATIONS["open_by_user"], {"by": by})).fetchall()
    open_by_user: dict[str, int] = dict(found)
    check_invitations(open_by_user, users, most)
    fields = {"conversation_id": conversation_id, "users": list(users), "by": by}
    await conn.execute(_INVITATIONS["insert"], fields)


async def end_invitation(conn: Connection, conversation_id: str, user_id: str) -> str | None:
    """Remove an open invitation and return its inviter; None when there was none."""
    fields = {"conversation_id": conversation_id, "user_id": user_id}
    row = await (await conn.execute(_INVITATIONS["end"], fields)).fetchone()
    return None if row is None else row[0]


async def note(
    conn: Connection,
    kind: ChangeKind,
    conversation_id: str,
    user_id: str,
    by: str,
    *,
    head: int,
    hidden_up_to: int = 0,
) -> None:
    """Append a change of members or invitations to the change log."""
    at = datetime.now(UTC)
    place = (kind, conversation_id, head + 1)
    entry = membership_entry(*place, user=user_id, by=by, at=wire_time(at), hidden_up_to=hidden_up_to)
    await change_log.append(conn, [entry], at)


async def _count_member(conn: Connection, conversation_id: str, delta: int) -> None:
    fields = {"conversation_id": conversation_id, "delta": delta, "max": MAX_MEMBERS}
    counted = await conn.execute(_CONVERSATIONS["count_member"], fields)
    if counted.rowcount == 0:
        raise Conflict(f"the conversation is full: it has {MAX_MEMBERS} members")
