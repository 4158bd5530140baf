"""Answers over HTTP as the clients of a run judge their form: whole, of the promised type, errors as problem+json."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import httpx2
import msgspec

from verify.observations import Call

T = TypeVar("T")
PROBLEM = "application/problem+json"
TRY_S = 6.0


class _Problem(msgspec.Struct):
    """The fields that every problem has (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    outcome: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """An error answer. ``defect`` says what is wrong with its form."""

    code: str = ""
    outcome: str = ""
    defect: str = ""


def problem_of(answer: httpx2.Response) -> Problem:
    """Return what an error answer says of itself. Pure."""
    kind = answer.headers.get("content-type", "").partition(";")[0].strip()
    if kind != PROBLEM:
        return Problem(defect=f"the body of a {answer.status_code} is {kind or 'of no type'}, not {PROBLEM}")
    try:
        found = msgspec.json.decode(answer.content, type=_Problem)
    except msgspec.MsgspecError:
        return Problem(defect=f"the body of a {answer.status_code} is no problem of RFC 9457")
    if found.status != answer.status_code or not found.code:
        return Problem(found.code, found.outcome, f"the problem says {found.status} {found.code}, not its own status")
    return Problem(found.code, found.outcome)


@dataclass(frozen=True, slots=True)
class Answered(Generic[T]):
    """A call with its body. ``value`` is None unless the answer is one that the client counts on, and well-formed."""

    call: Call
    value: T | None = None
    response: httpx2.Response | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Makes each request once, at any of the doors, and notes every one in ``calls``."""

    client: httpx2.AsyncClient
    doors: Sequence[str]
    token: Callable[[str], str]
    calls: list[Call]

    async def read(
        self, what: str, user: str, path: str, kind: type[T], query: Mapping[str, object] | None = None
    ) -> Answered[T]:
        """Make a ``GET`` that is answered 200 with JSON of this type."""
        given = {name: str(value) for name, value in (query or {}).items() if value is not None}
        return await self.request(what, user, "GET", path, kind=kind, params=given)

    async def request(
        self,
        what: str,
        user: str,
        method: str,
        path: str,
        *,
        ok: Sequence[int] = (200,),
        also: Sequence[int] = (),
        kind: type[T] | None = None,
        timeout_s: float = TRY_S,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Answered[T]:
        """Make a request. ``also``: error answers that are right, too. ``kind``: the type of the answers ``ok``."""
        url, began = f"{random.choice(self.doors)}{path}", time.monotonic()
        sent = {"authorization": f"Bearer {self.token(user)}", **(headers or {})}
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self.client.request(method, url, headers=sent, **more)
        except (httpx2.HTTPError, TimeoutError):
            return self._noted(Call(what, user, began, time.monotonic(), None))
        ended, status = time.monotonic(), answer.status_code
        if status not in ok:
            problem = Problem() if method == "HEAD" else problem_of(answer)
            call = Call(what, user, began, ended, status, problem.code, problem.defect, status in also)
            return self._noted(call, response=answer)
        value, defect = (None, "") if kind is None else _decoded(answer, kind)
        return self._noted(Call(what, user, began, ended, status, "", defect, True), value, answer)

    def _noted(self, call: Call, value: T | None = None, response: httpx2.Response | None = None) -> Answered[T]:
        self.calls.append(call)
        return Answered(call, value, response)


def _decoded(answer: httpx2.Response, kind: type[T]) -> tuple[T | None, str]:
    try:
        return msgspec.json.decode(answer.content, type=kind), ""
    except msgspec.MsgspecError:
        return None, f"the body of a {answer.status_code} is no {kind.__name__}"
