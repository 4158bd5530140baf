"""A client of the HTTP front door that keeps its word: unknown outcomes are repeated with the same key."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import orjson

from schemas.ids import new_id
from stack.errors import OperatorError

_TRY_FOR_S = 120.0
_PER_TRY_S = 5.0
_RETRY = frozenset({429, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Posted:
    """What the server answered, and how long that took on the wire (of the last try)."""

    message_id: str
    seq: int
    seconds: float
    began: float
    """``time.perf_counter()`` when the first try went out."""


@dataclass(slots=True)
class _OnWire:
    """When a request went out, and when its answer came in; what the client library does besides is its own."""

    sent: float = 0.0
    answered: float = 0.0

    async def __call__(self, event: str, _: dict[str, Any]) -> None:
        if event == "http11.send_request_headers.started":
            self.sent = time.perf_counter()
        elif event == "http11.receive_response_headers.complete":
            self.answered = time.perf_counter()


@dataclass(slots=True)
class FrontDoor:
    """Calls in the name of many users, on shared keep-alive connections."""

    client: httpx2.AsyncClient
    repeats: int = 0
    post_seconds: list[float] = field(default_factory=list)

    async def create(self, token: str, members: list[str], title: str | None = None) -> str:
        """Make a conversation; returns its id. A repeat with the same id is no second one."""
        id_ = new_id()
        body = {"conversationId": id_, "members": members, **({} if title is None else {"title": title})}
        await self._call("POST", "/conversations", token, body, fine=(201, 409))
        return id_

    async def add(self, token: str, conversation_id: str, user_id: str) -> None:
        """Make the user a member."""
        await self._call("POST", f"/conversations/{conversation_id}/members", token, {"userId": user_id}, fine=(204,))

    async def leave(self, token: str, conversation_id: str, user_id: str) -> None:
        """End the user's membership; a repeat finds that it has ended."""
        await self._call("DELETE", f"/conversations/{conversation_id}/members/{user_id}", token, None, fine=(204, 404))

    async def send(self, token: str, conversation_id: str, content: str) -> Posted:
        """Post a message until the server has said what became of it."""
        first = _OnWire()
        answer, last = await self._post(token, conversation_id, content, first)
        seconds = last.answered - last.sent
        self.post_seconds.append(seconds)
        return Posted(answer["messageId"], answer["seq"], seconds, first.sent or last.sent)

    async def post(self, token: str, conversation_id: str, content: str) -> dict[str, Any]:
        """Post a message like ``send``; return the server's answer."""
        answer, _ = await self._post(token, conversation_id, content, _OnWire())
        return dict(answer)

    async def _post(self, token: str, conversation_id: str, content: str, wire: _OnWire) -> tuple[Any, _OnWire]:
        body = {"conversationId": conversation_id, "type": "text", "content": content, "clientMessageId": new_id()}
        return await self._call("POST", "/messages", token, body, fine=(200, 201), wire=wire)

    async def _call(
        self, method: str, path: str, token: str, body: Any, *, fine: tuple[int, ...], wire: _OnWire | None = None
    ) -> tuple[Any, _OnWire]:
        """What was said, and the last try on the wire; ``wire`` is for the first one."""
        give_up, wait = time.monotonic() + _TRY_FOR_S, 0.1
        wire = wire or _OnWire()
        while True:
            answer = await self._try(method, path, token, body, wire)
            if answer is not None and answer.status_code in fine:
                return (orjson.loads(answer.content) if answer.content else None), wire
            if answer is not None and answer.status_code not in _RETRY:
                raise OperatorError(f"{method} {path} was refused: {answer.status_code} {answer.text[:300]}")
            if time.monotonic() > give_up:
                raise OperatorError(f"no answer from {path} for {_TRY_FOR_S:.0f} s; see `millrace status`")
            self.repeats, wire = self.repeats + 1, _OnWire()
            asked = float(answer.headers.get("retry-after", 0)) if answer is not None else 0.0
            await asyncio.sleep(max(min(asked, 5.0), wait * random.uniform(0.5, 1.5)))
            wait = min(wait * 2, 3.0)

    async def _try(self, method: str, path: str, token: str, body: Any, wire: _OnWire) -> httpx2.Response | None:
        headers = {"authorization": f"Bearer {token}"}
        content = None
        if body is not None:
            headers["content-type"] = "application/json"
            content = orjson.dumps(body)
        try:
            traced = {"trace": wire}
            return await self.client.request(method, path, headers=headers, content=content, extensions=traced)
        except httpx2.HTTPError:
            return None  # unknown: the same call again tells


@asynccontextmanager
async def open_front_door(url: str) -> AsyncIterator[FrontDoor]:
    """Connections to the HTTP API, made as needed."""
    limits = httpx2.Limits(max_connections=64, max_keepalive_connections=64)
    async with httpx2.AsyncClient(base_url=url, timeout=_PER_TRY_S, limits=limits) as client:
        yield FrontDoor(client)
