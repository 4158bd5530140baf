"""Tokens: what python-jose alone would let pass is refused, and what holds is remembered only while it does."""

from __future__ import annotations

import time

import pytest

from adapters.auth import Verifier, issue
from adapters.auth.keys import BadKeys, Secret
from domain.errors import Unauthenticated
from domain.revocations import Revocation, RevokedTokens
from tests.issuers import SECRET, Issuer, attacks

ISSUER = Issuer()


@pytest.fixture
def verifier() -> Verifier:
    return Verifier(Secret(SECRET), "millrace", "millrace", RevokedTokens())


async def test_a_token_that_was_issued_names_its_user(verifier):
    identity = await verifier.verify(issue(SECRET, "alice", ttl_s=60))
    assert identity.user_id == "alice"
    assert 55 < identity.expires_at - time.time() <= 60
    assert identity.issued_at == identity.expires_at - 60


@pytest.mark.parametrize(
    "good",
    [{"aud": ["other", "millrace"]}, {"nbf": int(time.time())}, {"scope": "chat"}, {"jti": "x" * 255}],
)
async def test_what_a_good_issuer_says_holds(verifier, good):
    assert (await verifier.verify(ISSUER.token(**good))).user_id == "bob"


@pytest.mark.parametrize("name", attacks(ISSUER))
async def test_an_attack_is_refused_with_the_same_words(verifier, name):
    with pytest.raises(Unauthenticated, match="the token is missing, malformed"):
        await verifier.verify(attacks(ISSUER)[name])


async def test_a_remembered_token_still_expires(verifier, monkeypatch):
    good = issue(SECRET, "alice", ttl_s=60)
    await verifier.verify(good)
    later = time.time() + 120
    monkeypatch.setattr(time, "time", lambda: later)
    with pytest.raises(Unauthenticated):
        await verifier.verify(good)


async def test_a_remembered_token_that_is_revoked_is_refused(verifier):
    one, other = ISSUER.token(jti="one"), ISSUER.token(jti="other")
    await verifier.verify(one)
    await verifier.verify(other)
    verifier.revoked.add(Revocation(1, "bob", "one", time.time(), time.time() + 60))
    await verifier.verify(other)
    with pytest.raises(Unauthenticated):
        await verifier.verify(one)


@pytest.mark.parametrize("secret", ["short", "-----BEGIN PUBLIC KEY-----\n" + "A" * 40])
def test_a_secret_that_is_none_stops_the_start(secret):
    with pytest.raises(BadKeys, match="MILLRACE_AUTH__SECRET"):
        Secret(secret)


def test_the_secret_is_not_in_the_repr(verifier):
    assert SECRET not in repr(verifier)
