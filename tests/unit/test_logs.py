"""What is logged of an exception: where it passed, never what it choked on."""

from __future__ import annotations

import io
import json
import logging
import sys
from functools import partial

import pytest
import structlog

from domain.errors import Unavailable
from runtime.log_limit import LogLimit
from runtime.logs import configure, configure_command

SECRET = "canary-of-a-token"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    """The clock by which repeated lines are bounded."""
    made = Clock()
    monkeypatch.setattr("runtime.logs.LogLimit", partial(LogLimit, clock=made))
    return made


@pytest.fixture
def lines(monkeypatch, clock):
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    configure("test-1")
    yield lambda: [json.loads(line) for line in out.getvalue().splitlines()]
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


def choke(token: str) -> None:
    body = token * 2
    raise ValueError(f"cannot read {body}")


@pytest.mark.parametrize("logger", [structlog.get_logger(), logging.getLogger("uvicorn.error")])
def test_neither_texts_nor_variables_of_an_exception_are_logged(lines, logger):
    try:
        choke(SECRET)
    except ValueError as exc:
        logger.error("unexpected", exc_info=exc)
    [said] = lines()
    assert SECRET not in json.dumps(said)
    assert (said["event"], said["node"], said["exception"][0]["type"]) == ("unexpected", "test-1", "ValueError")
    assert said["exception"][0]["at"][-1].endswith(" choke")


def test_our_own_texts_are_logged_and_causes_are_named(lines):
    try:
        try:
            choke(SECRET)
        except ValueError as exc:
            raise ExceptionGroup("several", [Unavailable("Redis does not answer")]) from exc
    except ExceptionGroup:
        structlog.get_logger().exception("failed")
    [said] = lines()
    assert [e["type"] for e in said["exception"]] == ["ExceptionGroup", "Unavailable"]
    assert said["exception"][1]["text"] == "Redis does not answer"
    assert SECRET not in json.dumps(said)


def test_what_a_library_says_ends_with_its_first_line(lines):
    logging.getLogger("asyncio").error("Task exception was never retrieved\nfuture: <Task exception=%s>", SECRET)
    assert [said["event"] for said in lines()] == ["Task exception was never retrieved"]


def test_a_library_that_repeats_itself_is_bounded_and_the_rest_is_counted(lines, clock):
    library = logging.getLogger("aiokafka")
    for n in range(4_000):  # half an hour of an outage
        clock.now += 0.45
        library.error("Unable connect to node with id %s: %s", n % 3, f"Connect call failed 127.0.0.1:{21_000 + n}")
        library.warning(f"Topic t{n} not available during auto-create initialization")
    said = lines()
    for level in ("error", "warning"):
        kind = [line for line in said if line["level"] == level]
        assert 90 <= len(kind) <= 5 + 30 * 3 + 1
        assert len(kind) + sum(line.get("left_out", 0) for line in kind) > 4_000 - 60
        assert "left_out" not in kind[0]


def test_our_own_warnings_are_bounded_and_others_get_through(lines):
    log = structlog.get_logger()
    for n in range(1_000):
        log.warning("relay_waits", shards=n)
        log.info("batch_done", rows=n)
        log.warning("security_event", left_out=0)
    log.error("log_lost_records")
    said = lines()
    count = {event: sum(line["event"] == event for line in said) for event in {line["event"] for line in said}}
    assert count == {"relay_waits": 20, "batch_done": 1_000, "security_event": 1_000, "log_lost_records": 1}


def test_a_log_of_ever_new_texts_takes_no_memory():
    limit = LogLimit(clock=lambda: 0.0)
    for n in range(3_000):
        name = "".join(chr(97 + int(digit)) for digit in str(n))
        assert limit.filter(logging.LogRecord("lib", logging.ERROR, "", 0, f"failed: {name}", None, None))
    assert len(limit._kinds) == 500


def test_a_command_keeps_standard_output_for_its_results(capsys):
    configure_command()
    try:
        structlog.get_logger().debug("topics_created", topics=["message.created"])
        structlog.get_logger().warning("producer_discarded", client_id="millrace", reason="TimeoutError")
    finally:
        structlog.reset_defaults()
    out, err = capsys.readouterr()
    assert out == ""
    [line] = map(json.loads, err.splitlines())
    assert (line["event"], line["level"], line["reason"]) == ("producer_discarded", "warning", "TimeoutError")
