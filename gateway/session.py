"""The protocol of one socket: frames in, decisions out. No I/O.

A frame of the client becomes an Effect for the server to carry out, or an ``error`` frame. One bad frame is an error;
ten of them in short time end the connection, while one a minute never does.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec
from msgspec import UNSET, Struct

from domain.conversations import NO_CONVERSATION
from domain.errors import Invalid, MillraceError, NotFound, RateLimited
from gateway.limits import BURST_S, Bucket, Limits
from schemas.commands import (
    Ack,
    Command,
    JoinConversation,
    LeaveConversation,
    Ping,
    Read,
    Ref,
    RefreshToken,
    Typing,
)
from schemas.frames import Error, Frame, Pong, answering
from schemas.ids import is_uuid

BAD_FRAMES, BAD_FRAMES_PER_S = 10, 1 / 60
UNCONFIRMED_MAX = 256
"""Joins of a socket whose membership is not confirmed yet, whatever the limit of joined conversations."""
NO_MESSAGE = "no such message in a conversation that is joined"


@dataclass(frozen=True, slots=True)
class Close:
    """End the connection with this code."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Reply:
    """Send this frame."""

    frame: Frame


Effect: TypeAlias = JoinConversation | LeaveConversation | Ack | Read | Typing | RefreshToken | Reply | Close

BAD_FRAME = Close(4400, "too many frames that are not of this protocol")
TOKEN_ENDED = Close(4401, "the token is missing, malformed or has ended")
REVOKED = Close(4401, "the token was revoked")
UNAVAILABLE = Close(1013, "try again later")
TOO_SLOW = Close(4408, "the client takes nothing")
TOO_MANY = Close(4429, "too many frames")
TOO_MANY_CONNECTIONS = Close(4429, "too many connections")
RESTART = Close(1012, "the server restarts")
BY_OPERATOR = Close(4410, "closed by an operator")

_decoder = msgspec.json.Decoder(Command)


@dataclass(slots=True)
class Session:
    """The state of one connection.

    ``joined`` and ``subscribed`` are views of its conversations now: those in which its user's membership is confirmed,
    and beside them those of joins under way. Only a ``leave_conversation`` counts the latter in.
    """

    user_id: str
    joined: Collection[str]
    subscribed: Collection[str]
    limits: Limits = field(default_factory=Limits)
    _bad: Bucket = field(init=False)
    _frames: Bucket = field(init=False)
    _joins: Bucket = field(init=False)
    _warned: bool = False

    def __post_init__(self) -> None:
        rate, joins = self.limits.frames_per_s, self.limits.joins_per_s
        self._bad = Bucket(BAD_FRAMES_PER_S, BAD_FRAMES - 1)
        self._frames = Bucket(rate, max(1.0, rate * BURST_S))
        self._joins = Bucket(joins, max(self.limits.max_subscriptions, joins * BURST_S))

    def receive(self, raw: str | bytes, now: float) -> Effect:
        """Return the effect of a frame, checked as far as can be without I/O (``now``: seconds of any steady clock)."""
        if not self._frames.take(now):
            if self._warned:
                return TOO_MANY
            self._warned = True
            rate = self.limits.frames_per_s
            return Reply(error(RateLimited(f"too many frames; send at most {rate:g} a second", 1.0)))
        self._warned = False
        try:
            command = _decoder.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
            return Reply(error(Invalid(_described(exc)), _ref(raw))) if self._bad.take(now) else BAD_FRAME
        try:
            return self._checked(command, now)
        except MillraceError as exc:
            return Reply(error(exc, command.ref))

    def _checked(self, command: Command, now: float) -> Effect:
        match command:
            case Ping(ref=ref):
                return Reply(Pong(ref=answering(ref)))
            case JoinConversation(id=id_) if not is_uuid(id_):
                raise NotFound(NO_CONVERSATION)
            case JoinConversation():
                return self._join(command, now)
            case LeaveConversation(id=id_) if id_ not in self.subscribed:
                raise NotFound("this conversation is not joined")
            case Ack() | Read():
                return self._receipt(command)
            case Typing():
                return self._typing(command)
            case _:
                return command

    def _join(self, command: JoinConversation, now: float) -> JoinConversation:
        most = self.limits.max_subscriptions
        if command.id not in self.subscribed:
            if most and len(self.subscribed) >= most:
                raise RateLimited(f"a socket joins at most {most} conversations; leave one first", 0)
            if len(self.subscribed) - len(self.joined) >= UNCONFIRMED_MAX:
                raise RateLimited(f"at most {UNCONFIRMED_MAX} joins may be under way on a socket", 1.0)
        if not self._joins.take(now):
            raise RateLimited(f"join at most {self.limits.joins_per_s:g} conversations a second", 1.0)
        return command

    def _receipt(self, command: Ack | Read) -> Effect:
        if (command.seq is None) == (command.message_id is None):
            raise Invalid("either conversationId with seq, or messageId, must be given")
        if command.seq is not None and command.conversation_id is None:
            raise Invalid("conversationId must be given with seq")
        if command.seq == 0:
            raise Invalid("seq must be that of an entry, so at least 1")
        if command.message_id is not None and not is_uuid(command.message_id):
            raise NotFound(NO_MESSAGE)
        if command.conversation_id is not None:
            self._must_be_joined(command.conversation_id)
        elif not self.joined:
            raise NotFound("no conversation is joined")
        return command

    def _typing(self, command: Typing) -> Effect:
        if command.conversation_id is None:
            if len(self.joined) != 1:
                raise Invalid("conversationId must be given unless exactly one conversation is joined")
            return Typing(command.is_typing, next(iter(self.joined)), command.ref)
        self._must_be_joined(command.conversation_id)
        return command

    def _must_be_joined(self, conversation_id: str) -> None:
        if conversation_id not in self.joined:
            raise NotFound("this conversation is not joined; send join_conversation first")


def error(exc: MillraceError, ref: Ref = None) -> Error:
    """Return an ``error`` frame with the code that HTTP would give."""
    retry = int(exc.retry_after_s * 1000) if isinstance(exc, RateLimited) else UNSET
    return Error(code=exc.code, detail=str(exc), ref=answering(ref), retry_after_ms=retry)


def _described(exc: Exception) -> str:
    if not isinstance(exc, msgspec.ValidationError):
        return "the frame is not a JSON object"
    text = str(exc).split(" value '")[0].split(", got")[0].split("Invalid value")[0] or "unknown type"
    return f"the frame is not of this protocol: {text[:150]}"


class _AnyCommand(Struct):
    """A frame of which only the ``ref`` matters."""

    ref: Ref = None


def _ref(raw: str | bytes) -> Ref:
    """Return the ``ref`` of a frame that is otherwise wrong, so that the client knows which one it was."""
    try:
        return msgspec.json.decode(raw, type=_AnyCommand).ref
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
