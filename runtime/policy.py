"""The policy that the settings name: one of the project's, or one of the deployment's, in a thread of its own."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import structlog

from domain.errors import Unavailable
from domain.policies import CompanyPolicy, PublicPolicy
from domain.policy import WITH_TARGET, Action, Allowed, Invite, Policy, Question, Refused, Verdict
from runtime.metrics import POLICY_FAILURES
from runtime.settings import Policies

_log = structlog.get_logger()

MAX_PENDING = 1000
"""Calls that wait for the policy of a deployment at a time; more are refused at once."""
_CODES = ("forbidden", "not_found", "conflict")
_CANCELLED = "the policy has cancelled its own answer"
_NO_ANSWER = "the policy of this deployment does not answer; try again"


class BadPolicy(Exception):
    """The setting names no policy that can be loaded."""


@contextmanager
def open_policy(settings: Policies) -> Iterator[Policy]:
    """Yield the policy. Raises BadPolicy: a process does not start without the policy that it was told to follow."""
    match settings.kind:
        case "company":
            yield CompanyPolicy(settings.older_history)
        case "public":
            yield PublicPolicy(settings.older_history)
        case name:
            with _thread() as loop:
                policy = _load(name)
                yield IsolatedPolicy(policy, loop, settings.timeout_s, getattr(policy, "relates", WITH_TARGET))


def _load(name: str) -> Policy:
    module, colon, factory = name.partition(":")
    if not (module and colon and factory):
        raise BadPolicy("MILLRACE_POLICY__KIND must be company, public, or module:factory")
    try:
        policy = getattr(importlib.import_module(module), factory)()
    except Exception as exc:  # whatever the deployment's module raises
        _log.error("policy_not_loaded", policy=name, reason=type(exc).__name__, exc_info=exc)
        raise BadPolicy(f"MILLRACE_POLICY__KIND names {name}, which cannot be loaded: {exc!r}") from exc
    if not inspect.iscoroutinefunction(getattr(policy, "may", None)):
        raise BadPolicy(f"MILLRACE_POLICY__KIND names {name}, which must return an object with `async def may`")
    _log.info("policy_loaded", policy=name)
    return policy  # type: ignore[no-any-return]  # what it returns is checked at each answer


@contextmanager
def _thread() -> Iterator[asyncio.AbstractEventLoop]:
    """Run an event loop in a daemon thread, so that a policy that blocks holds up nothing but its own answers."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=_run, args=(loop,), name="policy", daemon=True).start()
    try:
        yield loop
    finally:
        with suppress(RuntimeError):  # the policy has ended its loop
            loop.call_soon_threadsafe(loop.stop)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks))
        loop.close()


@dataclass(slots=True)
class IsolatedPolicy:
    """A deployment's policy on a loop of its own. No answer, a late one and a wrong one are all Unavailable."""

    policy: Policy
    loop: asyncio.AbstractEventLoop
    timeout_s: float
    relates: Collection[Action] = WITH_TARGET
    _pending: int = 0
    """Calls that the policy has not finished, whether somebody still waits for them or not."""

    async def may(self, questions: Sequence[Question]) -> Sequence[Verdict]:
        if self._pending >= MAX_PENDING:
            raise self._failed("too many questions wait")
        try:
            async with asyncio.timeout(self.timeout_s):
                verdicts = await self._ask(questions)
        except TimeoutError:
            raise self._failed("no answer in time") from None
        except Exception as exc:  # whatever the deployment's policy raises
            raise self._failed(type(exc).__name__, exc) from exc
        if not _is_answer(verdicts, questions):
            raise self._failed("not one verdict for each question")
        return verdicts

    async def _ask(self, questions: Sequence[Question]) -> Sequence[Verdict]:
        """Ask on the other loop; there the call is cancelled when nobody waits for it any more."""
        here = asyncio.get_running_loop()
        answer: asyncio.Future[Sequence[Verdict]] = here.create_future()
        tasks: list[asyncio.Task[Sequence[Verdict]]] = []

        def start() -> None:
            tasks.append(self.loop.create_task(self._answer(questions)))
            tasks[0].add_done_callback(end)

        def end(task: asyncio.Task[Sequence[Verdict]]) -> None:
            if not task.cancelled():
                task.exception()  # looked at here too: nobody else may be left to do it
            with suppress(RuntimeError):  # the process ends, and its loop is closed
                here.call_soon_threadsafe(settle, task)

        def settle(task: asyncio.Task[Sequence[Verdict]]) -> None:
            self._pending -= 1
            exc = RuntimeError(_CANCELLED) if task.cancelled() else task.exception()
            if answer.done():
                return
            if exc is None:
                answer.set_result(task.result())
            else:
                answer.set_exception(exc)

        self._pending += 1
        self.loop.call_soon_threadsafe(start)
        try:
            return await answer
        finally:
            with suppress(RuntimeError):  # the policy has ended its loop
                self.loop.call_soon_threadsafe(lambda: [task.cancel() for task in tasks])

    async def _answer(self, questions: Sequence[Question]) -> Sequence[Verdict]:
        try:
            return await self.policy.may(questions)
        except (SystemExit, KeyboardInterrupt) as exc:  # they would end the loop, for all questions that follow
            raise RuntimeError(f"the policy has raised {type(exc).__name__}") from exc

    def _failed(self, reason: str, exc: Exception | None = None) -> Unavailable:
        POLICY_FAILURES.inc()
        _log.warning("policy_failed", reason=reason, pending=self._pending, exc_info=exc)
        return Unavailable(_NO_ANSWER)


def _is_answer(verdicts: object, questions: Sequence[Question]) -> bool:
    return (
        isinstance(verdicts, list | tuple)
        and len(verdicts) == len(questions)
        and all(_is_verdict(verdict) for verdict in verdicts)
    )


def _is_verdict(verdict: object) -> bool:
    if isinstance(verdict, Refused):
        return verdict.code in _CODES and isinstance(verdict.detail, str)
    return isinstance(verdict, Allowed | Invite)
