"""``millrace send`` and ``millrace listen``: a message in, and the frames that come out, without a browser."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
import typer
from millrace_client.connection import LATER, PLACED
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from cli.command import Data, find_target
from cli.target import Server
from stack.errors import OperatorError

_TOKEN_S = 86_400
_FIRST_WAIT_S, _MOST_WAIT_S = 0.1, 3.0
_FINAL = {4401: "the token has ended or was revoked"}
_JOIN = "join"
_REFUSED = (400, 401, 403, 404)

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
    print(asyncio.run(_send(target.http_url, token, conversation, to or "", _piped() if text == "-" else text)))


def _piped() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as exc:
        raise OperatorError("the message on standard input must be UTF-8") from exc


async def _send(url: str, token: str, conversation: str | None, to: str, text: str) -> str:
    from millrace_client.http import open_front_door

    async with open_front_door(url) as door:
        if conversation is None:
            conversation = await door.create(token, [name for part in to.split(",") if (name := part.strip())])
        return orjson.dumps(await door.post(token, conversation, text)).decode()


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
    asyncio.run(Listener(target.ws_url, token, conversation, after, messages).run())


@dataclass(slots=True)
class Listener:
    """Prints what a connection gets. ``after``: the last contiguous seq of its conversation; ``messages``: how many
    more are wanted, None for all."""

    url: str
    token: str
    conversation: str | None
    after: int
    messages: int | None
    _wait_s: float = _FIRST_WAIT_S
    _joined: bool = False

    async def run(self) -> None:
        """Print frames until all that was wanted is printed. Raises OperatorError when the server refuses for good."""
        while why := await self._connection():
            print(f"{self.url} {why}; connecting again", file=sys.stderr)
            await asyncio.sleep(random.uniform(0, self._wait_s))
            self._wait_s = min(self._wait_s * 2, _MOST_WAIT_S)

    async def _connection(self) -> str | None:
        """Live through one connection; return why it ended, or None when all that was wanted is printed."""
        headers = {"Authorization": f"Bearer {self.token}"}
        try:
            async with connect(self.url, additional_headers=headers, max_size=2**20, proxy=None) as socket:
                return await self._follow(socket)
        except BrokenPipeError:  # nobody reads what we print any more, as after `| head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return None
        except ConnectionClosed as exc:
            code = exc.rcvd.code if exc.rcvd else None
            if code in _FINAL:
                raise OperatorError(f"{self.url} closed the connection with {code}: {_FINAL[code]}") from exc
            return f"closed the connection with {code}" if code else "was lost"
        except InvalidStatus as exc:
            status, said = exc.response.status_code, exc.response.body[:300].decode(errors="replace")
            if status in _REFUSED:
                raise OperatorError(f"{self.url} refused the connection with {status}: {said}") from exc
            return f"refused the connection with {status}"
        except (InvalidHandshake, OSError, TimeoutError):
            return "does not answer"

    async def _follow(self, socket: ClientConnection) -> str | None:
        self._joined = False
        if self.conversation is not None:
            join = {"type": "join_conversation", "id": self.conversation, "after": self.after, "ref": _JOIN}
            await socket.send(orjson.dumps(join).decode())
        while True:
            raw = await socket.recv(decode=True)
            frame: dict[str, Any] = orjson.loads(raw)
            if frame["type"] == "error" and frame.get("ref") == _JOIN:
                if frame["code"] in LATER:
                    return f"answered {frame['code']}"
                raise OperatorError(f"conversation {self.conversation} was refused: {frame['detail']}")
            if frame["type"] != "connected":
                self._wait_s = _FIRST_WAIT_S
            if self._is_next(frame):
                print(raw, flush=True)
                if self._is_last(frame):
                    return None

    def _is_next(self, frame: dict[str, Any]) -> bool:
        """Tell whether the frame is to be printed: everything but what the conversation has shown already, and hints
        that come before their turn, while it is not joined."""
        if frame["type"] == "joined":
            self._joined, self.after = True, max(self.after, frame["seq"])
        if not self._is_placed(frame) or frame["seq"] == 0:
            return True
        if frame["seq"] <= self.after or not (self._joined or frame["seq"] == self.after + 1):
            return False
        self.after = frame["seq"]
        return True

    def _is_last(self, frame: dict[str, Any]) -> bool:
        """Count the message, if it is one that is waited for; tell whether it was the last."""
        if self.messages is None:
            return False
        is_ours = self.conversation is None or self._is_placed(frame)
        self.messages -= is_ours and frame["type"] == "new_message"
        return self.messages <= 0 and (self._joined or self.conversation is None)

    def _is_placed(self, frame: dict[str, Any]) -> bool:
        return frame.get("conversationId") == self.conversation and frame["type"] in PLACED
