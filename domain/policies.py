"""The policies that come with the project: ``company``, where everybody is a colleague, and ``public``. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from domain.policy import ALLOWED, INVITE, WITH_TARGET, Action, Question, Refused, Relation, Standing, Verdict

_NO_OLDER = Refused("new members do not read what was said before they joined")
_NOT_WRITTEN = Refused("presence is shown where its user has written")
_DECLINED = Refused("this user has declined an invitation of yours, and cannot be invited by you again")
_LEFT = Refused("this user has left the conversation; send an invitation (POST …/invitations) instead of adding them")


@dataclass(frozen=True, slots=True)
class CompanyPolicy:
    """Members are added at once; only those who have left are not: they come back by accepting an invitation."""

    older_history: bool = True
    relates: Collection[Action] = frozenset((Action.ADD, Action.INVITE))

    async def may(self, questions: Sequence[Question]) -> Sequence[Verdict]:
        return [_common(question, older_history=self.older_history) or _company(question) for question in questions]


@dataclass(frozen=True, slots=True)
class PublicPolicy:
    """Only acquaintances are added at once; everybody else is invited."""

    older_history: bool = True
    relates: Collection[Action] = WITH_TARGET

    async def may(self, questions: Sequence[Question]) -> Sequence[Verdict]:
        return [_common(question, older_history=self.older_history) or _public(question) for question in questions]


def _common(question: Question, *, older_history: bool) -> Verdict | None:
    """Return the verdict on questions that both policies answer alike; None for the others."""
    match question.action:
        case Action.WRITE:
            return ALLOWED
        case Action.SHOW_PRESENCE:
            return ALLOWED if question.has_written else _NOT_WRITTEN
        case Action.READ_OLDER:
            return ALLOWED if older_history else _NO_OLDER
        case Action.INVITE:
            return _DECLINED if _target(question).declined else ALLOWED
    return None


def _company(question: Question) -> Verdict:
    match _target(question).standing:
        case Standing.LEFT:
            return _LEFT
        case Standing.INVITED:  # the invitation waits for its answer, whoever adds the user meanwhile
            return INVITE
    return ALLOWED


def _public(question: Question) -> Verdict:
    target = _target(question)
    if target.standing is Standing.MEMBER:
        return ALLOWED
    if target.standing is Standing.INVITED:
        return INVITE
    if target.acquainted and target.standing is not Standing.LEFT:
        return ALLOWED
    return _DECLINED if target.declined else INVITE


def _target(question: Question) -> Relation:
    assert question.target is not None, "a question about a target names it"
    return question.target
