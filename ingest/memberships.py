"""Creation of conversations and of memberships, as the policy allows them: members at once, invited, or refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import orjson

from domain.conversations import NO_CONVERSATION, Conversations, check_change
from domain.errors import NotFound
from domain.invitations import Invitations
from domain.policy import Action, Invite, Policy, Question, Refused, Relation, Relations, Standing, allows, ask, refuse
from domain.text import comparable
from schemas.ids import is_uuid
from schemas.messages import ChangeKind


@dataclass(frozen=True, slots=True)
class Founding:
    """Outcome of a creation: who is a member and who is invited. ``replayed``: the same request came before."""

    members: tuple[str, ...]
    invited: tuple[str, ...]
    head_seq: int = 0
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Memberships:
    """Asks the policy, outside of any transaction, and stores what it allows.

    ``most_invitations``: open invitations of one inviter; 0 sets no bound.
    """

    conversations: Conversations
    invitations: Invitations
    relations: Relations
    policy: Policy
    most_invitations: int

    async def create(self, conversation_id: str, title: str | None, owner: str, users: Sequence[str]) -> Founding:
        """Create a conversation. One refusal refuses it. Raises Forbidden, NotFound, Conflict, Unavailable."""
        others = sorted({*users} - {owner})
        invited = await self._invited_at_creation(owner, others)
        members = [user for user in others if user not in invited]
        created = await self.conversations.create(
            conversation_id,
            title,
            owner,
            members,
            invited=sorted(invited),
            most_invitations=self.most_invitations,
            request_hash=_hash(title, others),
        )
        if created:
            return Founding(tuple(sorted([owner, *members])), tuple(sorted(invited)))
        present = await self.conversations.get(conversation_id, owner)
        if present is None:
            raise NotFound(NO_CONVERSATION)
        everybody = tuple(member.user_id for member in present.members)
        return Founding(everybody, tuple(present.invited), present.head_seq, replayed=True)

    async def _invited_at_creation(self, owner: str, others: Sequence[str]) -> set[str]:
        """Return those who are invited and not added."""
        if not others:
            return set()
        relations = {user: Relation(user_id=user) for user in others}
        if Action.CREATE in self.policy.relates:
            relations.update(await self.relations.relations(owner, others))
        verdicts = await self.policy.may(
            [Question(user_id=owner, action=Action.CREATE, target=relations[user]) for user in others]
        )
        for user, verdict in zip(others, verdicts, strict=True):
            if isinstance(verdict, Refused):
                refuse(Refused(f"{user}: {verdict.detail}", verdict.code))
        return {user for user, verdict in zip(others, verdicts, strict=True) if isinstance(verdict, Invite)}

    async def add(self, conversation_id: str, user_id: str, by: str) -> bool:
        """Make a user a member, or invite them; return False when they are invited and must accept first.

        Raises NotFound, Forbidden, Conflict, Unavailable.
        """
        target = await self._target(ChangeKind.MEMBER_ADDED, conversation_id, user_id, by)
        if target.standing is Standing.MEMBER:
            return True
        question = Question(user_id=by, action=Action.ADD, conversation_id=conversation_id, target=target)
        verdict = await ask(self.policy, question)
        refuse(verdict)
        if isinstance(verdict, Invite):
            await self._invite(conversation_id, target, by)
            return False
        reads_older = await self._reads_older(conversation_id, user_id)
        await self.conversations.add(conversation_id, user_id, by, seen=target.standing, reads_older=reads_older)
        return True

    async def invite(self, conversation_id: str, user_id: str, by: str) -> bool:
        """Invite a user; return False when they are a member already.

        Raises NotFound, Forbidden, Conflict, Unavailable.
        """
        target = await self._target(ChangeKind.MEMBER_INVITED, conversation_id, user_id, by)
        if target.standing is Standing.MEMBER:
            return False
        question = Question(user_id=by, action=Action.INVITE, conversation_id=conversation_id, target=target)
        refuse(await ask(self.policy, question))
        await self._invite(conversation_id, target, by)
        return True

    async def accept(self, conversation_id: str, user_id: str) -> None:
        """Make an invited user a member. Raises NotFound, Conflict, Unavailable."""
        reads_older = await self._reads_older(conversation_id, user_id)
        await self.invitations.accept(conversation_id, user_id, reads_older=reads_older)

    async def _target(self, kind: ChangeKind, conversation_id: str, user_id: str, by: str) -> Relation:
        """Return how the user stands, once it is certain that ``by`` may know. Raises NotFound, Forbidden, Conflict."""
        if not is_uuid(conversation_id):
            raise NotFound(NO_CONVERSATION)
        found = await self.relations.relations(by, sorted({by, user_id}), conversation_id)
        check_change(kind, found[by].role, user_id=user_id, by=by)
        return found[user_id]

    async def _invite(self, conversation_id: str, target: Relation, by: str) -> None:
        await self.invitations.invite(
            conversation_id, target.user_id, by, seen=target.standing, most=self.most_invitations
        )

    async def _reads_older(self, conversation_id: str, user_id: str) -> bool:
        question = Question(user_id=user_id, action=Action.READ_OLDER, conversation_id=conversation_id)
        return await allows(self.policy, question)


def _hash(title: str | None, others: Sequence[str]) -> bytes:
    """Return what is the same for a repetition of a creation."""
    return sha256(orjson.dumps([None if title is None else comparable(title), others])).digest()
