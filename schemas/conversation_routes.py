"""The HTTP calls about conversations, members and invitations."""

from __future__ import annotations

from typing import Literal

from schemas import answers, calls
from schemas.fields import IdempotencyKey
from schemas.operations import BODY_PROBLEMS, LOCATION, NO_CONTENT, ONCE_KEY, Header, Operation, Reply, once

_DONE, _INVITED = once("done"), once("invited: the user becomes a member by accepting")
_CREATE_KEY = Header("Idempotency-Key", IdempotencyKey, "makes a repeat of the same body find the first conversation")
_CREATED_BEFORE = Header("Idempotent-Replayed", Literal["true"], "the same call created it before", required=True)

CONVERSATIONS: tuple[Operation, ...] = (
    Operation(
        id="createConversation",
        method="POST",
        path="/conversations",
        summary="Create a conversation; the caller becomes owner and member.",
        tag="conversations",
        body=calls.NewConversation,
        headers=(_CREATE_KEY,),
        replies={
            201: Reply("created", answers.ConversationCreated, headers=(LOCATION,)),
            200: Reply(
                "created before by the same call; as it is now",
                answers.ConversationCreated,
                headers=(LOCATION, _CREATED_BEFORE),
            ),
        },
        problems=(403, 409, *BODY_PROBLEMS),
        rate="conversations",
    ),
    Operation(
        id="listConversations",
        method="GET",
        path="/conversations",
        summary="List the caller's conversations, newest activity first.",
        tag="conversations",
        query=calls.ConversationsQuery,
        replies={200: Reply("a page", answers.ConversationPage)},
        problems=(422,),
    ),
    Operation(
        id="getConversation",
        method="GET",
        path="/conversations/{id}",
        summary="Read a conversation with its members, their roles and watermarks.",
        tag="conversations",
        replies={200: Reply("the conversation", answers.ConversationDetails)},
        problems=(404,),
    ),
    Operation(
        id="addMember",
        method="POST",
        path="/conversations/{id}/members",
        summary="Make a user a member, or invite one who must accept first; for the owner. Idempotent.",
        tag="conversations",
        body=calls.NewMember,
        headers=(ONCE_KEY,),
        replies={204: _DONE, 202: _INVITED},
        problems=(403, 404, 409, *BODY_PROBLEMS),
        rate="members",
    ),
    Operation(
        id="removeMember",
        method="DELETE",
        path="/conversations/{id}/members/{userId}",
        summary="End a membership or an invitation; for the owner, or of oneself. Idempotent.",
        tag="conversations",
        replies={204: NO_CONTENT},
        problems=(403, 404, 409, 422),
        rate="members",
    ),
    Operation(
        id="inviteMember",
        method="POST",
        path="/conversations/{id}/invitations",
        summary="Invite a user, who becomes a member by accepting; for the owner. Idempotent.",
        tag="invitations",
        body=calls.NewInvitation,
        headers=(ONCE_KEY,),
        replies={202: _INVITED, 204: once("the user is a member already")},
        problems=(403, 404, 409, *BODY_PROBLEMS),
        rate="members",
    ),
    Operation(
        id="listInvitations",
        method="GET",
        path="/invitations",
        summary="List the caller's open invitations, newest first.",
        tag="invitations",
        query=calls.InvitationsQuery,
        replies={200: Reply("a page", answers.InvitationPage)},
        problems=(422,),
    ),
    Operation(
        id="acceptInvitation",
        method="POST",
        path="/conversations/{id}/invitation/accept",
        summary="Accept the caller's invitation and become a member. Idempotent.",
        tag="invitations",
        headers=(ONCE_KEY,),
        replies={204: _DONE},
        problems=(403, 404, 409, 422),
        rate="members",
    ),
    Operation(
        id="declineInvitation",
        method="POST",
        path="/conversations/{id}/invitation/decline",
        summary="Decline the caller's invitation; its sender cannot invite the caller again. Idempotent.",
        tag="invitations",
        replies={204: NO_CONTENT},
        rate="members",
    ),
)
