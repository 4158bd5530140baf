"""The port to the policy: what one user may do to others, and the facts on which it decides.

A policy answers questions. It is asked with facts of the store and never under a lock; what is stored afterwards is
checked again against the facts that it saw. A verdict that is no ``Verdict`` of this module counts as none.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol, TypeAlias

from domain.errors import Conflict, Forbidden, NotFound, Rejected

ACQUAINTED_MAX_MEMBERS = 64
"""Largest conversation in which writing makes acquaintances of its members."""
MAX_PER_INVITEE = 5
"""Most open invitations of one user to another."""

RefusalCode: TypeAlias = Literal["forbidden", "not_found", "conflict"]
_ERRORS: Mapping[str, type[Rejected]] = {"forbidden": Forbidden, "not_found": NotFound, "conflict": Conflict}


class Action(StrEnum):
    """Action of a user that the policy is asked about."""

    CREATE = "create"
    """Take the target into a new conversation."""
    ADD = "add"
    """Make the target a member of a conversation."""
    INVITE = "invite"
    """Invite the target into a conversation."""
    WRITE = "write"
    """Send a message to a conversation; no target."""
    SHOW_PRESENCE = "show_presence"
    """Show the user's own presence to the members of a conversation; no target."""
    READ_OLDER = "read_older"
    """Read, as a new member, what was said before; no target. The answer holds for as long as the membership lasts."""


WITH_TARGET = frozenset((Action.CREATE, Action.ADD, Action.INVITE))
"""Actions that are done to another user."""


class Standing(StrEnum):
    """Standing of a user in a conversation."""

    STRANGER = "stranger"
    INVITED = "invited"
    MEMBER = "member"
    LEFT = "left"
    """Was a member and has left."""
    REMOVED = "removed"
    """Was a member and was removed by somebody else."""


def standing_of(user_id: str, *, is_member: bool, is_invited: bool, ended_by: str | None) -> Standing:
    """Return how a user stands to a conversation; ``ended_by``: who ended an earlier membership."""
    if is_member:
        return Standing.MEMBER
    if is_invited:
        return Standing.INVITED
    if ended_by is None:
        return Standing.STRANGER
    return Standing.LEFT if ended_by == user_id else Standing.REMOVED


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """Standing of a user in a conversation, and their tie to the one who acts.

    ``acquainted``: the user has written in a conversation of at most ACQUAINTED_MAX_MEMBERS members of which both are
    members now. ``declined``: the user has declined an invitation of the one who acts. ``role``: of a member.
    """

    user_id: str
    standing: Standing = Standing.STRANGER
    role: str | None = None
    acquainted: bool = False
    declined: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """May ``user_id`` do this? ``conversation_id`` is None for a conversation that does not exist yet.

    ``target``: the user to whom it is done, with CREATE, ADD and INVITE. ``has_written``: with SHOW_PRESENCE, whether
    the user has written in this conversation.
    """

    user_id: str
    action: Action
    conversation_id: str | None = None
    target: Relation | None = None
    has_written: bool = False


@dataclass(frozen=True, slots=True)
class Allowed:
    """Verdict: the user may do it."""


@dataclass(frozen=True, slots=True)
class Invite:
    """Verdict on CREATE and ADD: the target is invited instead, and becomes a member by accepting."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Verdict: the user may not; ``detail`` is the text of the error, for people."""

    detail: str
    code: RefusalCode = "forbidden"


Verdict: TypeAlias = Allowed | Invite | Refused
ALLOWED, INVITE = Allowed(), Invite()


class Policy(Protocol):
    """Decides what users may do to others.

    A deployment's own policy implements ``may``; it needs nothing else of this project but this module. It may name in
    ``relates`` the actions whose targets it wants to know more of than their ids, so that nothing is read for the
    others; without it facts come with all.
    """

    @property
    def relates(self) -> Collection[Action]:
        """Actions whose targets come with the facts of the store."""

    async def may(self, questions: Sequence[Question]) -> Sequence[Verdict]:
        """Return a verdict for each question, in their order. Raises Unavailable."""


class Relations(Protocol):
    """Facts of the store about users, for the policy."""

    async def relations(
        self, by: str, user_ids: Sequence[str], conversation_id: str | None = None
    ) -> Mapping[str, Relation]:
        """Return how each of the users stands to ``by``, and to the conversation, by user id. Raises Unavailable."""


async def ask(policy: Policy, question: Question) -> Verdict:
    """Return the verdict on one question. Raises Unavailable."""
    [verdict] = await policy.may([question])
    return verdict


async def require(policy: Policy, question: Question) -> None:
    """Check that the policy allows it. Raises Forbidden, NotFound or Conflict as the verdict says; Unavailable."""
    refuse(await ask(policy, question))


async def allows(policy: Policy, question: Question) -> bool:
    """Return whether the policy allows it. Raises Unavailable."""
    return isinstance(await ask(policy, question), Allowed)


def refuse(verdict: Verdict) -> None:
    """Raise the error of a refusal; return for any other verdict."""
    if isinstance(verdict, Refused):
        raise _ERRORS[verdict.code](verdict.detail)


def check_invitations(open_by_user: Mapping[str, int], invitees: Sequence[str], most: int) -> None:
    """Check that a user with these open invitations, counted by invitee, may send these. Raises Conflict.

    ``most``: open invitations of one inviter; 0 sets no bound.
    """
    if most and sum(open_by_user.values()) + len(invitees) > most:
        raise Conflict(f"at most {most} invitations of one user may be open; wait for answers, or withdraw some")
    if any(open_by_user.get(user, 0) >= MAX_PER_INVITEE for user in invitees):
        raise Conflict(f"at most {MAX_PER_INVITEE} invitations to the same user may be open; wait for an answer")
