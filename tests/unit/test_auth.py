"""Tokens: what python-jose alone would let pass is refused."""

from __future__ import annotations

import time

import pytest
from jose import jwt

from runtime.auth import BadSecret, Verifier, issue
from runtime.errors import Unauthenticated

SECRET = "s" * 40
NOW = int(time.time())
CLAIMS = {"sub": "alice", "iss": "millrace", "aud": "millrace", "iat": NOW, "exp": NOW + 60, "jti": "1"}


@pytest.fixture
def verifier() -> Verifier:
    return Verifier(SECRET, "millrace", "millrace")


def token(headers: dict[str, object] | None = None, algorithm: str = "HS256", **changes: object) -> str:
    claims = {k: v for k, v in {**CLAIMS, **changes}.items() if v is not None}
    return jwt.encode(claims, SECRET, algorithm=algorithm, headers=headers)


def test_a_token_that_was_issued_names_its_user(verifier):
    identity = verifier.verify(issue(SECRET, "alice", ttl_s=60))
    assert identity.user_id == "alice"
    assert 55 < identity.expires_at - time.time() <= 60


@pytest.mark.parametrize("claim", ["sub", "iss", "aud", "iat", "exp", "jti"])
def test_every_claim_is_required(verifier, claim):
    with pytest.raises(Unauthenticated):
        verifier.verify(token(**{claim: None}))


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "other"},
        {"iss": "other"},
        {"exp": NOW - 60},
        {"iat": NOW + 3600, "exp": NOW + 7200},
        {"exp": NOW + 10**9},
        {"sub": "a b"},
        {"sub": "x" * 65},
        {"exp": float(NOW + 60)},
    ],
)
def test_a_claim_that_does_not_hold_is_refused(verifier, changes):
    with pytest.raises(Unauthenticated):
        verifier.verify(token(**changes))


@pytest.mark.parametrize("header", [{"crit": ["exp"]}, {"jku": "https://evil"}, {"typ": "x"}, {"zip": "DEF"}])
def test_headers_that_change_the_meaning_are_refused(verifier, header):
    with pytest.raises(Unauthenticated):
        verifier.verify(token(header))


def test_the_algorithm_is_ours_not_the_tokens(verifier):
    with pytest.raises(Unauthenticated):
        verifier.verify(token(algorithm="HS512"))


@pytest.mark.parametrize("raw", ["", "x", "a.b.c", "é.é.é", "a.b.c=", "x" * 5000, ".." * 10])
def test_garbage_is_refused_with_the_same_words(verifier, raw):
    with pytest.raises(Unauthenticated, match="the token is missing, malformed"):
        verifier.verify(raw)


def test_a_remembered_token_still_expires(verifier, monkeypatch):
    good = issue(SECRET, "alice", ttl_s=60)
    verifier.verify(good)
    later = time.time() + 120
    monkeypatch.setattr(time, "time", lambda: later)
    with pytest.raises(Unauthenticated):
        verifier.verify(good)


def test_a_short_secret_stops_the_start():
    with pytest.raises(BadSecret):
        Verifier("short", "millrace", "millrace")


def test_the_secret_is_not_in_the_repr(verifier):
    assert SECRET not in repr(verifier)
