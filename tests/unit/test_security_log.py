"""Security events: each has its stream and result, and a flood of refusals is counted, not written."""

from __future__ import annotations

import structlog

from runtime.security_log import SecurityEvent, SecurityLog


def test_a_line_says_who_did_what_and_how_it_ended():
    with structlog.testing.capture_logs() as lines:
        log = SecurityLog()
        log.refused(SecurityEvent.TOKEN_REFUSED, "unauthenticated", address="192.0.2.7", user_id=None, path="/messages")
        log.done(SecurityEvent.MEMBER_REMOVED, user_id="bob", by="ann", conversation_id="c1")
    refused, done = lines
    assert refused == {
        "event": "security_event",
        "log_level": "warning",
        "stream": "security",
        "kind": "token_refused",
        "result": "refused",
        "address": "192.0.2.7",
        "path": "/messages",
        "code": "unauthenticated",
        "left_out": 0,
    }
    assert (done["kind"], done["result"], done["user_id"], done["by"]) == ("member_removed", "done", "bob", "ann")


def test_a_flood_of_refusals_is_bounded_and_counted():
    now = [0.0]
    with structlog.testing.capture_logs() as lines:
        log = SecurityLog(clock=lambda: now[0])
        for _ in range(10_000):
            log.refused(SecurityEvent.TOKEN_REFUSED, "unauthenticated")
        assert len(lines) == 50
        now[0] += 1
        for _ in range(10_000):
            log.refused(SecurityEvent.TOKEN_REFUSED, "unauthenticated")
    assert len(lines) == 55
    assert lines[50]["left_out"] == 9_950
