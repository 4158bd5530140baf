"""Every call gets one answer, in time: from the application, or in place of it."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from structlog.testing import capture_logs

from domain.errors import NotFound, OutcomeUnknown, Unavailable
from domain.rates import Limit, Standing
from ingest.http.middleware import CallMiddleware
from ingest.http.rate_fields import note
from schemas.fields import MAX_BODY

BUDGET = Standing("messages", Limit(0.1, 3.0), 2.0)


class Call:
    """A call of an application behind the middleware, and what it is answered."""

    def __init__(self, app: Any, *headers: tuple[bytes, bytes], seconds: float = 60.0, **more: Any) -> None:
        self.middleware = CallMiddleware(app, "/media", seconds)
        self.scope = {"type": "http", "method": "POST", "path": "/messages", "headers": [*headers], **more}
        self.body: asyncio.Queue[bytes] = asyncio.Queue()
        self.sent: list[Any] = []

    async def receive(self) -> Any:
        return {"type": "http.request", "body": await self.body.get(), "more_body": True}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    async def run(self) -> Call:
        async with asyncio.timeout(5):
            await self.middleware(self.scope, self.receive, self.send)
        return self

    @property
    def status(self) -> int:
        """The status of the only answer."""
        [start, _] = self.sent
        return int(start["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        headers = self.sent[0]["headers"]
        assert len(dict(headers)) == len(headers), "each is there once"
        return dict(headers)

    @property
    def problem(self) -> Any:
        return orjson.loads(self.sent[1]["body"])


def raising(exc: Exception) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise exc

    return app


def answering(response: Response) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        note(scope, BUDGET)
        await response(scope, receive, send)

    return app


@pytest.mark.parametrize("response", [Response(b"x"), Response(b"x", headers={"x-content-type-options": "nosniff"})])
async def test_an_answer_gets_the_fields_that_all_have_once(response):
    call = await Call(answering(response)).run()
    assert (call.status, call.sent[1]["body"]) == (200, b"x")
    assert call.headers[b"x-content-type-options"] == b"nosniff"
    assert call.headers[b"ratelimit-policy"] == b'"messages";q=3;w=30'
    assert call.headers[b"ratelimit"] == b'"messages";r=2;t=10'
    assert b"ratelimit" not in dict(response.raw_headers), "the next call has a budget of its own"


@pytest.mark.parametrize(
    ("exc", "status"),
    [(NotFound("x"), 404), (Unavailable("x"), 503), (OutcomeUnknown("x"), 503), (HTTPException(405), 405)],
)
async def test_an_error_is_answered_by_its_problem_and_goes_no_further(exc, status):
    call = await Call(raising(exc)).run()
    assert (call.status, call.problem["status"]) == (status, status)
    assert call.headers[b"x-content-type-options"] == b"nosniff"
    assert call.problem.get("outcome") == ("unknown" if isinstance(exc, OutcomeUnknown) else None)
    assert exc.__traceback__ is None


async def test_a_caller_who_hung_up_is_no_fault():
    with capture_logs() as logs:
        assert (await Call(raising(ClientDisconnect())).run()).status == 400
    assert logs == []


async def test_a_bug_is_answered_logged_and_told_to_the_server():
    async def app(scope: Any, receive: Any, send: Any) -> None:
        note(scope, BUDGET)
        raise ZeroDivisionError("my-secret")

    call = Call(app)
    with capture_logs() as logs, pytest.raises(ZeroDivisionError):
        await call.run()
    assert (call.status, call.problem["code"]) == (500, "internal")
    assert call.headers[b"ratelimit"] == b'"messages";r=2;t=10'
    [line] = logs
    assert (line["event"], line["path"], line["reason"]) == ("request_failed", "/messages", "ZeroDivisionError")
    assert "my-secret" not in str(call.sent)


@pytest.mark.parametrize("exc", [NotFound("x"), ZeroDivisionError()])
async def test_an_error_after_the_begin_of_an_answer_ends_it_and_makes_no_second_one(exc):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise exc

    call = Call(app)
    with capture_logs() as logs, pytest.raises((RuntimeError, ZeroDivisionError)):
        await call.run()
    assert [message["status"] for message in call.sent] == [200]
    assert [line["event"] for line in logs] == ["request_failed"]


@pytest.mark.parametrize(
    ("length", "path", "status"),
    [
        (b"%d" % MAX_BODY, "/messages", 200),
        (b"%d" % (MAX_BODY + 1), "/messages", 413),
        (b"+5", "/messages", 413),
        (b"%d" % (MAX_BODY + 1), "/media/x", 200),
    ],
)
async def test_a_declared_length_is_bounded_before_anything_is_done(length, path, status):
    call = await Call(answering(Response(b"x")), (b"content-length", length), path=path).run()
    assert call.status == status
    assert status == 200 or call.problem["code"] == "payload_too_large"


@pytest.mark.parametrize(("method", "outcome"), [("GET", None), ("POST", "unknown")])
async def test_a_late_answer_goes_nowhere(method, outcome):
    answered = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        note(scope, BUDGET)
        await answered.wait()
        await receive()
        await Response(b"late")(scope, receive, send)

    call = Call(app, seconds=0.02, method=method)
    running = asyncio.create_task(call.run())
    async with asyncio.timeout(5):
        while len(call.sent) < 2:  # noqa: ASYNC110 - a deadline that is waited for
            await asyncio.sleep(0.005)
    answered.set()
    call.body.put_nowait(b"x")
    await running
    assert (call.status, call.problem.get("outcome")) == (503, outcome)
    assert call.headers[b"ratelimit"] == b'"messages";r=2;t=10'
    assert not call.middleware._deadlines


@pytest.mark.parametrize("exc", [NotFound("x"), ZeroDivisionError()])
async def test_a_late_error_makes_no_second_answer(exc):
    call = Call(None, seconds=0.02)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while not call.sent:  # noqa: ASYNC110 - a deadline that is waited for
            await asyncio.sleep(0.005)
        raise exc

    call.middleware.app = app
    with capture_logs():
        if isinstance(exc, NotFound):
            await call.run()
        else:
            with pytest.raises(ZeroDivisionError):
                await call.run()
    assert call.status == 503


async def test_time_that_the_client_takes_for_its_body_is_its_own():
    parts: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        parts.extend([(await receive())["body"] for _ in range(2)])
        await asyncio.Event().wait()

    call = Call(app, seconds=0.05)
    running = asyncio.create_task(call.run())
    for part in (b"a", b"b"):
        await asyncio.sleep(0.1)  # twice the time for an answer
        assert call.sent == []
        call.body.put_nowait(part)
    async with asyncio.timeout(5):
        while len(call.sent) < 2:  # noqa: ASYNC110 - a deadline that is waited for
            await asyncio.sleep(0.005)
    assert (call.status, parts) == (503, [b"a", b"b"])
    running.cancel()


async def test_a_call_that_has_begun_its_answer_in_time_has_all_time_for_the_rest():
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(0.1)
        await send({"type": "http.response.body", "body": b"x"})

    call = await Call(app, seconds=0.02).run()
    assert (call.status, call.sent[1]["body"]) == (200, b"x")
