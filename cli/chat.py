"""``millrace send`` and ``millrace listen``: a message in, and the frames that come out, without a browser."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from typing import Annotated

import msgspec
import typer
from millrace_client import (
    ErrorFrame,
    Frame,
    Joined,
    Listener,
    LiveConnection,
    NewMessage,
    decode_frame,
    open_http_client,
)

from cli.client_errors import client_errors
from cli.command import Data, find_target
from cli.target import Server
from runtime.terminal import is_terminal, visible
from stack.errors import OperatorError

_TOKEN_S = 86_400
_REMOVED = "removed"

User = Annotated[str, typer.Argument(metavar="USER", help="1-64 of A-Z a-z 0-9 _ . : -")]


def send(
    user: User,
    text: Annotated[str, typer.Argument(help="The message, 1-4,000 characters; - reads standard input.")],
    conversation: Annotated[str | None, typer.Option(help="A conversation of the user, by its id.")] = None,
    to: Annotated[str | None, typer.Option(help="Users of a new conversation, separated by commas.")] = None,
    data: Data = None,
) -> None:
    """Send a message as USER; print the answer as JSON."""
    if (conversation is None) == (to is None):
        raise OperatorError("name a conversation with --conversation, or users for a new one with --to")
    target = find_target(data, Server.HTTP, Server.SECRET)
    token = target.token(user, ttl_s=_TOKEN_S)
    content = _piped() if text == "-" else text
    with client_errors():
        print(asyncio.run(_send(target.http_url, token, conversation, to or "", content)))


def _piped() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as exc:
        raise OperatorError("the message on standard input must be UTF-8") from exc


async def _send(url: str, token: str, conversation: str | None, to: str, text: str) -> str:
    async with open_http_client(url, token) as client:
        if conversation is None:
            members = [name for part in to.split(",") if (name := part.strip())]
            conversation = await client.create_conversation(members)
        posted = await client.send(conversation, text)
        return msgspec.json.encode(posted.message).decode()


def listen(
    user: User,
    conversation: Annotated[
        str | None, typer.Option(help="Join this conversation: print all of it, then what comes.")
    ] = None,
    after: Annotated[int, typer.Option(help="With --conversation: skip messages up to this seq.", min=0)] = 0,
    messages: Annotated[int | None, typer.Option(help="End after this number of messages.", min=1)] = None,
    data: Data = None,
) -> None:
    """Print the live frames of USER, one JSON object a line, until Ctrl-C. Reconnects when the connection is lost; with
    --conversation no message of that conversation is missed or printed twice."""
    target = find_target(data, Server.WEBSOCKET, Server.SECRET)
    token = target.token(user, ttl_s=_TOKEN_S)
    with client_errors():
        asyncio.run(_listen(target.ws_url, token, conversation, after, messages))


@dataclass(slots=True)
class _Printer(Listener):
    """Prints what a connection gets; stops it after ``messages`` of them, unless that is None."""

    live: LiveConnection
    conversation: str | None
    messages: int | None
    refusal: OperatorError | None = None
    _is_joined: bool = False

    def on_content(self, seq: int, raw: bytes) -> None:
        """Print the next content frame of the conversation."""
        self._print(raw)
        self._count(is_message=isinstance(decode_frame(raw), NewMessage))

    def on_frame(self, frame: Frame, raw: bytes) -> None:
        """Print any other frame."""
        if isinstance(frame, ErrorFrame) and frame.ref is not None:
            return  # answers the join, which is repeated or refused
        self._print(raw)
        self._is_joined = self._is_joined or isinstance(frame, Joined)
        self._count(is_message=self.conversation is None and isinstance(frame, NewMessage))

    def on_ended(self, code: str, detail: str) -> None:
        """Stop when the join was refused."""
        if code != _REMOVED:
            self.refusal = OperatorError(f"conversation {self.conversation} was refused: {detail}")
            self.live.stop()

    def on_disconnected(self, reason: str) -> None:
        """Say that the connection is made again."""
        print(f"{self.live.urls} {reason}; connecting again", file=sys.stderr)

    def _print(self, raw: bytes) -> None:
        try:
            text = raw.decode()
            print(visible(text) if is_terminal() else text, flush=True)
        except BrokenPipeError:  # nobody reads what we print any more, as after `| head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            self.live.stop()

    def _count(self, *, is_message: bool) -> None:
        if self.messages is not None:
            self.messages -= is_message
            if self.messages <= 0 and (self._is_joined or self.conversation is None):
                self.live.stop()


def printer_on(live: LiveConnection, conversation: str | None, after: int, messages: int | None) -> _Printer:
    """Return what prints the frames of a connection, once that runs."""
    printer = live.listener = _Printer(live, conversation, messages)
    if conversation is not None:
        live.subscribe(conversation, printer, after=after)
    return printer


async def _listen(url: str, token: str, conversation: str | None, after: int, messages: int | None) -> None:
    live = LiveConnection(url, token)
    printer = printer_on(live, conversation, after, messages)
    await live.run()
    if printer.refusal is not None:
        raise printer.refusal
