"""HTTP requests that are repeated until it is known what became of them.

No answer, 429, 502, 503 and 504 are repeated with backoff, never before ``Retry-After``; any other error is raised.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx2
import msgspec

from millrace_client.backoff import Backoff
from millrace_client.errors import ProtocolError, Refused, Unavailable, refusal
from millrace_client.tokens import TokenSource
from millrace_client.transport import retry_after
from millrace_client.types import Problem

T = TypeVar("T")

_REPEATED = frozenset({429, 502, 503, 504})


@dataclass(slots=True)
class _WireTimes:
    """Receives httpx2's trace events: when the request went out, and when its answer began to come in."""

    sent: float = 0.0
    answered: float = 0.0

    async def __call__(self, event: str, _: dict[str, Any]) -> None:
        if event == "http11.send_request_headers.started":
            self.sent = time.perf_counter()
        elif event == "http11.receive_response_headers.complete":
            self.answered = time.perf_counter()


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer. ``seconds`` is the time of the last try on the wire; ``began`` is ``time.perf_counter()``
    when the first try went out."""

    body: bytes
    status: int
    is_repeat: bool
    seconds: float
    began: float

    def as_type(self, kind: type[T]) -> T:
        """Return the body as this type. Raises ProtocolError."""
        try:
            return msgspec.json.decode(self.body, type=kind)
        except msgspec.MsgspecError as exc:
            raise ProtocolError(f"the server's answer is no {kind.__name__}: {exc}") from exc


@dataclass(slots=True)
class RetryingTransport:
    """Keep-alive connections to one API, shared by any number of users. ``patience_s`` bounds all tries of a call."""

    client: httpx2.AsyncClient
    patience_s: float = 120.0
    repeats: int = 0
    """Requests that were made again."""

    async def call(
        self,
        method: str,
        path: str,
        tokens: TokenSource,
        body: object = None,
        *,
        ok: tuple[int, ...],
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        """Make a call until it is answered with one of ``ok``. Raises Refused, Unavailable."""
        call = _Call(method, path, None if body is None else msgspec.json.encode(body), query or {})
        backoff, give_up = Backoff(least=0.5, most=1.5), time.monotonic() + self.patience_s
        token, was_renewed, began = await tokens.current(), False, 0.0
        while True:
            response, times = await self._try(call, token)
            began = began or times.sent or time.perf_counter()
            if response is not None and response.status_code in ok:
                is_repeat = response.headers.get("idempotent-replayed") == "true"
                return Answer(response.content, response.status_code, is_repeat, times.answered - times.sent, began)
            if response is not None and response.status_code == 401 and tokens.is_renewable and not was_renewed:
                token, was_renewed = await tokens.renew(token), True
                continue
            wait_s = self._wait_s(call, response, backoff)
            if time.monotonic() + wait_s > give_up:
                raise self._failure(call, response)
            self.repeats += 1
            await asyncio.sleep(wait_s)

    async def _try(self, call: _Call, token: str) -> tuple[httpx2.Response | None, _WireTimes]:
        """Return the answer, None when there was none, and the times of this try."""
        headers, times = {"authorization": f"Bearer {token}"}, _WireTimes()
        if call.content is not None:
            headers["content-type"] = "application/json"
        try:
            response = await self.client.request(
                call.method,
                call.path,
                params=call.query or None,
                headers=headers,
                content=call.content,
                extensions={"trace": times},
            )
        except httpx2.HTTPError:
            return None, times
        return response, times

    def _wait_s(self, call: _Call, response: httpx2.Response | None, backoff: Backoff) -> float:
        """Return the wait before the next try. Raises Refused when another try would fail again."""
        if response is None:
            return backoff.next()
        if response.status_code not in _REPEATED:
            raise _refused(response)
        return backoff.next(retry_after(response.headers.get("retry-after")))

    def _failure(self, call: _Call, response: httpx2.Response | None) -> Refused | Unavailable:
        if response is not None and response.status_code == 429:
            return _refused(response)
        return Unavailable(f"{call.method} {call.path} has no answer within {self.patience_s:.0f} s")


@dataclass(frozen=True, slots=True)
class _Call:
    method: str
    path: str
    content: bytes | None = field(repr=False)
    query: Mapping[str, str] = field(repr=False)


def _refused(response: httpx2.Response) -> Refused:
    try:
        problem = msgspec.json.decode(response.content, type=Problem)
    except msgspec.MsgspecError:
        problem = Problem(detail="the answer says no more")
    return refusal(
        response.status_code,
        problem.code,
        problem.detail,
        errors=problem.errors,
        retry_after_s=retry_after(response.headers.get("retry-after")),
    )


@asynccontextmanager
async def open_http(url: str, *, patience_s: float = 120.0, timeout_s: float = 5.0) -> AsyncIterator[RetryingTransport]:
    """Yield connections to the API at ``url``, made as needed. ``timeout_s`` bounds one try."""
    limits = httpx2.Limits(max_connections=64, max_keepalive_connections=64)
    async with httpx2.AsyncClient(base_url=url, timeout=timeout_s, limits=limits) as client:
        yield RetryingTransport(client, patience_s)
