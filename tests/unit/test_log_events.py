"""Events of the product's logs: a name to search for, and the ids of the thing that changed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import pytest

from tests.checkout import ROOT

ROOMS = ("adapters", "audit", "cli", "domain", "gateway", "ingest", "runtime", "schemas", "stack", "streams")
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
LOGGERS = {"_log", "log", "_logger", "logger"}
IDS = {
    "channel_kind",
    "client_id",
    "cluster_id",
    "connection_id",
    "conversation_id",
    "conversations",
    "gateway",
    "group",
    "media_id",
    "media_type",
    "message_id",
    "node",
    "offset",
    "partition",
    "partitions",
    "server",
    "shards",
    "stage",
    "topic",
    "topics",
    "user_id",
}
SNAKE_CASE = re.compile(r"[a-z]+(_[a-z]+)+\Z")


@dataclass(frozen=True)
class LogCall:
    place: str
    level: str
    event: ast.expr | None
    keywords: frozenset[str]

    @property
    def name(self) -> str | None:
        return self.event.value if isinstance(self.event, ast.Constant) and isinstance(self.event.value, str) else None


def names_a_logger(value: ast.expr) -> bool:
    """Return True for ``_log``, ``log`` and ``self._log``: a module's logger, or one that is bound to ids."""
    name = value.id if isinstance(value, ast.Name) else value.attr if isinstance(value, ast.Attribute) else ""
    return name in LOGGERS


def log_calls(source: str, place: str) -> Iterator[LogCall]:
    """Yield the calls of a structlog logger in a module that has one."""
    if "structlog" not in source:
        return
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        method = call.func
        if isinstance(method, ast.Attribute) and method.attr in LEVELS and names_a_logger(method.value):
            keywords = frozenset(keyword.arg or "**" for keyword in call.keywords)
            event = call.args[0] if len(call.args) == 1 else None
            yield LogCall(f"{place}:{call.lineno}", method.attr, event, keywords)


@cache
def product() -> list[LogCall]:
    return [
        call
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*.py"))
        for call in log_calls(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))
    ]


def test_every_event_has_a_name_that_can_be_searched_for():
    calls = product()
    assert len(calls) > 80
    assert [call.place for call in calls if call.name is None or not SNAKE_CASE.match(call.name)] == []


def test_changes_of_state_have_debug_events_with_ids():
    with_ids = {
        call.name for call in product() if call.level == "debug" and (call.keywords & IDS or "**" in call.keywords)
    }
    assert len(with_ids) >= 40


@pytest.mark.parametrize(
    "room", ["adapters/kafka", "adapters/postgres", "adapters/redis", "gateway", "ingest", "streams"]
)
def test_each_room_that_holds_state_has_debug_events(room: str):
    assert any(call.level == "debug" for call in product() if call.place.startswith(f"{room}/"))


@pytest.mark.parametrize("keyword", ["content", "body", "token", "dsn", "file_name", "url", "why", "error"])
def test_no_event_has_a_field_that_may_hold_a_secret_or_content_or_repeats_the_reason(keyword: str):
    assert [call.place for call in product() if keyword in call.keywords] == []


def test_no_event_is_logged_for_each_record_or_message():
    hot = {"on_reply", "on_push", "data_received", "_deliver", "_add", "push", "on_message", "send", "_new_offset"}
    found = []
    for room in ("adapters", "gateway", "ingest", "streams"):
        for path in sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in hot:
                    place = f"{path.relative_to(ROOT)} {node.name}"
                    calls = log_calls("import structlog\n" + ast.unparse(node), place)
                    found += [call.place for call in calls if call.level == "debug"]
    assert found == []


def test_the_guide_to_debugging_names_events_that_are_logged():
    rows = [
        line.split("|")[2]
        for line in (ROOT / "docs/debugging.md").read_text().splitlines()
        if "_" in line and "|" in line
    ]
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", " ".join(rows)))
    assert len(named) > 25
    assert named <= {call.name for call in product()}


@pytest.mark.parametrize(
    "source",
    [
        '_log.info(f"batch {n}")',
        '_log.info("the batch is done")',
        '_log.info("batch %d", n)',
        "_log.info(event)",
        'self._log.debug("Batch")',
    ],
)
def test_a_sentence_or_a_format_is_found(source: str):
    [call] = log_calls(f"import structlog\n{source}", "x.py")
    assert call.name is None or not SNAKE_CASE.match(call.name)
