"""Policies: their verdicts as a table, how a deployment's own is loaded, and what it cannot do to others."""

from __future__ import annotations

import asyncio
import importlib
import re
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from domain.conversations import check_seen
from domain.errors import Conflict, Forbidden, Invalid, NotFound, Unavailable
from domain.policies import CompanyPolicy, PublicPolicy
from domain.policy import (
    ALLOWED,
    INVITE,
    Action,
    Allowed,
    Policy,
    Question,
    Refused,
    Relation,
    Standing,
    Verdict,
    ask,
    check_invitations,
    require,
    standing_of,
)
from ingest.http.validation import title_of
from runtime import policy as loading
from runtime.policy import BadPolicy, IsolatedPolicy, open_policy
from runtime.settings import Policies

ROOT = Path(__file__).parents[2]
POLICIES: dict[str, Policy] = {"company": CompanyPolicy(), "public": PublicPolicy()}

WHO: dict[str, Relation] = {
    "stranger": Relation(user_id="v"),
    "acquaintance": Relation(user_id="v", acquainted=True),
    "declined": Relation(user_id="v", declined=True),
    "declined acquaintance": Relation(user_id="v", acquainted=True, declined=True),
    "invited": Relation(user_id="v", standing=Standing.INVITED),
    "member": Relation(user_id="v", standing=Standing.MEMBER, role="member"),
    "owner": Relation(user_id="v", standing=Standing.MEMBER, role="owner"),
    "left": Relation(user_id="v", standing=Standing.LEFT),
    "left acquaintance": Relation(user_id="v", standing=Standing.LEFT, acquainted=True),
    "left and declined": Relation(user_id="v", standing=Standing.LEFT, declined=True),
    "removed": Relation(user_id="v", standing=Standing.REMOVED),
    "removed acquaintance": Relation(user_id="v", standing=Standing.REMOVED, acquainted=True),
}
TABLE = """
who                   | company add | company invite | public add | public invite
stranger              | allowed     | allowed        | invite     | allowed
acquaintance          | allowed     | allowed        | allowed    | allowed
declined              | allowed     | refused        | refused    | refused
declined acquaintance | allowed     | refused        | allowed    | refused
invited               | invite      | allowed        | invite     | allowed
member                | allowed     | allowed        | allowed    | allowed
owner                 | allowed     | allowed        | allowed    | allowed
left                  | refused     | allowed        | invite     | allowed
left acquaintance     | refused     | allowed        | invite     | allowed
left and declined     | refused     | refused        | refused    | refused
removed               | allowed     | allowed        | invite     | allowed
removed acquaintance  | allowed     | allowed        | allowed    | allowed
"""


def cases() -> Iterator[tuple[str, str, str, str]]:
    """(policy, action, who, verdict) of each cell."""
    head, *lines = [[cell.strip() for cell in line.split("|")] for line in TABLE.strip().splitlines()]
    for who, *verdicts in lines:
        for column, verdict in zip(head[1:], verdicts, strict=True):
            yield (*column.split(), who, verdict)


def named(verdict: Verdict) -> str:
    return type(verdict).__name__.lower()


@pytest.mark.parametrize(("policy", "action", "who", "verdict"), list(cases()))
async def test_the_table_of_verdicts(policy: str, action: str, who: str, verdict: str):
    question = Question(user_id="u", action=Action(action), conversation_id="c", target=WHO[who])
    assert named(await ask(POLICIES[policy], question)) == verdict


def test_the_table_is_about_everybody():
    assert {who for _, _, who, _ in cases()} == set(WHO)
    assert {relation.standing for relation in WHO.values()} == set(Standing)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("who", ["stranger", "acquaintance", "declined"])
async def test_a_creation_is_judged_like_an_addition(policy: str, who: str):
    create, add = (Question(user_id="u", action=action, target=WHO[who]) for action in (Action.CREATE, Action.ADD))
    verdicts = await POLICIES[policy].may([create, add])
    assert verdicts[0] == verdicts[1]


@pytest.mark.parametrize("kind", [CompanyPolicy, PublicPolicy])
async def test_what_needs_no_target(kind: type[CompanyPolicy | PublicPolicy]):
    def question(action: Action, **more: Any) -> Question:
        return Question(user_id="u", action=action, conversation_id="c", **more)

    asked = [
        question(Action.WRITE),
        question(Action.SHOW_PRESENCE, has_written=True),
        question(Action.SHOW_PRESENCE),
        question(Action.READ_OLDER),
    ]
    assert [named(each) for each in await kind().may(asked)] == ["allowed", "allowed", "refused", "allowed"]
    assert [named(each) for each in await kind(older_history=False).may(asked)][-1] == "refused"


@pytest.mark.parametrize(("code", "error"), [("forbidden", Forbidden), ("not_found", NotFound), ("conflict", Conflict)])
async def test_a_refusal_is_an_error_with_its_code_and_text(code: Any, error: type[Exception]):
    class Refusing:
        relates = ()

        async def may(self, questions: Sequence[Question]) -> Sequence[Verdict]:
            return [Refused("ask the head first", code)]

    with pytest.raises(error, match="ask the head first"):
        await require(Refusing(), Question(user_id="u", action=Action.WRITE))


def test_standings():
    def standing(is_member: bool = False, is_invited: bool = False, ended_by: str | None = None) -> Standing:
        return standing_of("v", is_member=is_member, is_invited=is_invited, ended_by=ended_by)

    assert standing() is Standing.STRANGER
    assert standing(ended_by="v") is Standing.LEFT
    assert standing(ended_by="o") is Standing.REMOVED
    assert standing(is_invited=True, ended_by="v") is Standing.INVITED
    assert standing(is_member=True, is_invited=True, ended_by="v") is Standing.MEMBER


def test_what_the_policy_saw_must_still_hold():
    check_seen(Standing.LEFT, None)
    check_seen(Standing.LEFT, Standing.LEFT)
    with pytest.raises(Unavailable, match="changed meanwhile"):
        check_seen(Standing.LEFT, Standing.MEMBER)


def test_open_invitations_are_bounded_for_an_inviter_and_for_each_invitee():
    check_invitations({"a": 5, "b": 3}, ["c"], 9)
    check_invitations({"a": 5, "b": 300}, ["c"], 0)
    with pytest.raises(Conflict, match="at most 9 "):
        check_invitations({"a": 5, "b": 3}, ["c", "d"], 9)
    with pytest.raises(Conflict, match="same user"):
        check_invitations({"a": 5, "b": 3}, ["a"], 9)


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("  Zoe\u0308  ", "Zoe\u0308"),
        ("Your bank: please verify\n\u202eevil", "Your bank: please verify evil"),
        ("a\tb\r\nc\u2028d", "a b c d"),
        ("\x9b31mred\x85", "31mred"),
        ("\u2066a\u2069\u200eb\u200f\u061c\ufeff", "ab"),
        ("👩\u200d👩\u200d👧 family", "👩\u200d👩\u200d👧 family"),
        ("نامه\u200cها", "نامه\u200cها"),
        ("x" * 200, "x" * 200),
    ],
)
def test_titles_are_like_names(typed: str, stored: str):
    assert title_of(typed) == stored


@pytest.mark.parametrize("typed", ["", " ", "\n\t", "\u202e\u2066", "\u200b\u2060", "\u3164", "\u2800 \u00ad"])
def test_a_title_that_nobody_sees_is_refused(typed: str):
    with pytest.raises(Invalid, match="visible characters"):
        title_of(typed)


# ---- a deployment's own


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Writes a module on the path; returns what MILLRACE_POLICY__KIND says of it."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    names: list[str] = []

    def write(source: str, factory: str = "factory") -> str:
        names.append(f"own_policy_{len(names)}_{id(tmp_path)}")
        (tmp_path / f"{names[-1]}.py").write_text(source)
        importlib.invalidate_caches()
        return f"{names[-1]}:{factory}"

    yield write
    for name in names:
        sys.modules.pop(name, None)


async def test_the_example_of_the_documentation_is_a_policy(module):
    [source] = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "policy.md").read_text(), re.DOTALL)
    with open_policy(Policies(kind=module(source, "school"))) as policy:
        pupil, teacher = Relation(user_id="pupil:1"), Relation(user_id="teacher:1")
        asked = [("pupil:2", pupil), ("pupil:2", teacher), ("teacher:2", pupil)]
        verdicts = await policy.may(
            [Question(user_id=user, action=Action.CREATE, target=target) for user, target in asked]
        )
        assert verdicts[0] == INVITE
        assert isinstance(verdicts[1], Refused)
        assert verdicts[2] == ALLOWED
        assert not isinstance(await ask(policy, Question(user_id="p", action=Action.READ_OLDER)), Allowed)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("friendly", "must be company, public, or module:factory"),
        (":factory", "must be company, public, or module:factory"),
        ("no_such_module_at_all:factory", "No module named"),
        ("json:no_such_factory", "no attribute"),
        ("json:loads", "cannot be loaded"),
        ("builtins:object", "async def may"),
    ],
)
def test_what_cannot_be_loaded_is_said_and_nothing_runs(kind: str, reason: str):
    with pytest.raises(BadPolicy, match=reason), open_policy(Policies(kind=kind)):
        raise AssertionError("opened")


BLOCKING = """
import threading
from domain.policy import ALLOWED
go = threading.Event()

class Blocking:
    async def may(self, questions):
        if any(question.user_id == "slow" for question in questions):
            go.wait()
        return [ALLOWED for _ in questions]

factory = Blocking
"""


def question(user: str = "u") -> Question:
    return Question(user_id=user, action=Action.WRITE, conversation_id="c")


async def test_a_policy_that_blocks_its_thread_is_unavailable_in_time_and_holds_up_nobody_else(module):
    name = module(BLOCKING)
    with open_policy(Policies(kind=name, timeout_s=0.3)) as policy:
        assert await ask(policy, question()) == ALLOWED
        ticks, began = 0, time.monotonic()
        waiting = asyncio.gather(*(ask(policy, question("slow")) for _ in range(20)), return_exceptions=True)
        while not waiting.done():
            await asyncio.sleep(0.01)
            ticks += 1
        assert [type(error) for error in await waiting] == [Unavailable] * 20
        assert time.monotonic() - began < 3
        assert ticks > 5, "the loop of everybody else goes on"
        sys.modules[name.partition(":")[0]].go.set()
        async with asyncio.timeout(5):
            while True:
                try:
                    assert await ask(policy, question()) == ALLOWED
                    break
                except Unavailable:
                    continue


async def test_questions_beyond_a_bound_are_refused_at_once(module, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loading, "MAX_PENDING", 3)
    name = module(BLOCKING)
    with open_policy(Policies(kind=name, timeout_s=0.2)) as policy:
        waiting = [asyncio.ensure_future(ask(policy, question("slow"))) for _ in range(3)]
        assert {type(error) for error in await asyncio.gather(*waiting, return_exceptions=True)} == {Unavailable}
        began = time.monotonic()
        with pytest.raises(Unavailable):
            await ask(policy, question())  # the three are still held by the policy
        assert time.monotonic() - began < 0.2
        sys.modules[name.partition(":")[0]].go.set()


WRONG = {
    "raises": "raise KeyError('secret')",
    "exits": "raise SystemExit",
    "hangs": "import asyncio; await asyncio.sleep(60)",
    "too few": "return []",
    "no verdict": "return [True for _ in questions]",
    "no list": "return None",
    "no code of ours": "from domain.policy import Refused; return [Refused('no', 'teapot')]",
    "cancels": "import asyncio; asyncio.current_task().cancel(); await asyncio.sleep(1)",
}


@pytest.mark.parametrize("how", WRONG)
async def test_a_policy_that_gives_no_answer_is_unavailable_and_never_allows(module, how: str):
    source = f"class P:\n    async def may(self, questions):\n        {WRONG[how]}\nfactory = P\n"
    with open_policy(Policies(kind=module(source), timeout_s=0.2)) as policy:
        assert isinstance(policy, IsolatedPolicy)
        for _ in range(3):
            began = time.monotonic()
            with pytest.raises(Unavailable, match="does not answer") as caught:
                await ask(policy, question())
            assert "secret" not in str(caught.value)
            assert time.monotonic() - began < 2


async def test_the_thread_ends_with_the_process_part_that_opened_it(module):
    def threads() -> int:
        return sum(thread.name == "policy" for thread in threading.enumerate())

    before = threads()
    with open_policy(Policies(kind=module(BLOCKING))):
        assert threads() == before + 1
    async with asyncio.timeout(5):
        while threads() > before:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
