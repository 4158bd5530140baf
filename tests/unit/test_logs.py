"""What is logged of an exception: where it passed, never what it choked on."""

from __future__ import annotations

import io
import json
import logging
import sys

import pytest
import structlog

from domain.errors import Unavailable
from runtime.logs import configure, configure_command

SECRET = "canary-of-a-token"


@pytest.fixture
def lines(monkeypatch):
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
