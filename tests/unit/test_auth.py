"""Tokens: what python-jose alone would let pass is refused, and what holds is remembered only while it does."""

from __future__ import annotations

import time
from typing import Any

import pytest

from adapters.auth import Verifier, issue
from adapters.auth.claims import ClaimRules
from adapters.auth.keys import BadKeys, Secret
from domain.errors import Unauthenticated
from domain.revocations import Revocation, RevokedTokens
from tests.issuers import SECRET, Issuer, attacks

ISSUER = Issuer()


@pytest.fixture
def verifier() -> Verifier:
    return Verifier(Secret(SECRET), ClaimRules(), RevokedTokens())


async def test_a_token_that_was_issued_names_its_user(verifier):
    identity = await verifier.verify(issue(SECRET, "alice", ttl_s=60))
    assert identity.user_id == "alice"
    assert 55 < identity.expires_at - time.time() <= 60
    assert identity.issued_at == identity.expires_at - 60


def good(now: float) -> dict[str, dict[str, Any]]:
    return {
        "several audiences": {"aud": ["other", "millrace"]},
        "of our second audience": {"aud": "mobile"},
        "begins now": {"nbf": int(now)},
        "begins in 20 s, by the issuer's clock": {"nbf": now + 20, "iat": now + 20},
        "ended 20 s ago": {"iat": now - 100, "exp": now - 20},
        "times with fractions": {"iat": now - 0.25, "exp": now + 60.5},
        "an id of 255 characters": {"jti": "x" * 255},
        "no id": {"jti": None},
        "other claims": {"scope": "chat", "azp": "web", "auth_time": int(now), "typ": "Bearer"},
    }


@pytest.mark.parametrize("name", good(0.0))
async def test_what_a_good_issuer_says_holds(name: str):
    rules = ClaimRules(audiences=frozenset({"millrace", "mobile"}))
    verifier = Verifier(Secret(SECRET), rules, RevokedTokens())
    assert (await verifier.verify(ISSUER.token(**good(time.time())[name]))).user_id == "bob"


@pytest.mark.parametrize("type_", ["JWT", "jwt", "at+jwt", "application/at+jwt", "application/JWT", None])
async def test_the_type_is_a_media_type(verifier, type_: str | None):
    assert (await verifier.verify(ISSUER.token({"typ": type_}))).user_id == "bob"


SUBJECTS = {
    "Auth0": "auth0|5f7c8ec7c33c6c004bbafe82",
    "Auth0, by Google": "google-oauth2|103547991597142817347",
    "Entra": "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ",
    "Firebase": "Zy9bB0u0g3hXkq2dVJ1mN5pQwRt2",
    "Okta": "00u1a2b3c4D5e6F7g8h9",
    "Okta, by login": "jane+chat@example.com",
    "Keycloak": "f:0b1e6a1c-7c39-4d9d-8f3f-1d8a3f6a1b2c:jane",
    "Cognito": "us-east-1:23045601-ba45-4a6e-8a35-000000000000",
    "a repository": "repo:octo-org/octo-repo:ref:refs/heads/main",
    "a distinguished name": "CN=jane,OU=staff,DC=example,DC=com",
    "Base64": "aGVsbG8/d29ybGQ+==",
    "braces": "{jane}}{",
    "255 characters": "x" * 255,
}


@pytest.mark.parametrize("name", SUBJECTS)
async def test_user_ids_of_the_usual_issuers_hold(verifier, name: str):
    assert (await verifier.verify(ISSUER.token(sub=SUBJECTS[name]))).user_id == SUBJECTS[name]


async def test_the_id_is_the_first_claim_that_a_token_has(verifier):
    assert (await verifier.verify(ISSUER.token(jti="a", uti="b"))).jti == "a"
    assert (await verifier.verify(ISSUER.token(jti=None, uti="b"))).jti == "b"


async def test_a_token_without_an_id_is_named_by_what_it_says(verifier):
    token = ISSUER.token(jti=None)
    one, other = await verifier.verify(token), await verifier.verify(ISSUER.token(jti=None, more=1))
    assert one.jti != other.jti
    assert one.jti.startswith("sha256:")
    assert token.rpartition(".")[2] not in one.jti
    verifier.revoked.add(Revocation(1, "bob", one.jti, time.time(), time.time() + 60))
    with pytest.raises(Unauthenticated) as caught:
        await verifier.verify(token)
    assert caught.value.causes == {"reason": "token_revoked", "user_id": "bob", "jti": one.jti}


async def test_claims_may_have_other_names():
    rules = ClaimRules(user_claim="oid", id_claims=("origin_jti",), audience_claim="client_id")
    verifier = Verifier(Secret(SECRET), rules, RevokedTokens())
    identity = await verifier.verify(ISSUER.token(aud=None, client_id="millrace", oid="jane", origin_jti="o"))
    assert (identity.user_id, identity.jti) == ("jane", "o")
    with pytest.raises(Unauthenticated):
        await verifier.verify(ISSUER.token(client_id="other", oid="jane"))


def faults(now: float) -> dict[str, tuple[str, dict[str, Any]]]:
    return {
        "issuer_unexpected": (ISSUER.token(iss="https://other.example/"), {"iss": "https://other.example/"}),
        "audience_unexpected": (ISSUER.token(aud="other"), {}),
        "token_expired": (ISSUER.token(iat=now - 600, exp=now - 60), {}),
        "token_not_yet_valid": (ISSUER.token(nbf=now + 600), {}),
        "lifetime_unacceptable": (ISSUER.token(exp=now + 31 * 86_400), {}),
        "times_malformed": (ISSUER.token(exp="soon"), {}),
        "user_id_malformed": (ISSUER.token(sub="\u0395\u03bb\u03ad\u03bd\u03b7"), {}),
        "token_id_malformed": (ISSUER.token(jti=1), {}),
        "algorithm_unexpected": (Issuer("RS256", "mine").token(), {"kid": "mine"}),
        "type_unexpected": (ISSUER.token({"typ": "dpop+jwt"}), {}),
        "header_unacceptable": (ISSUER.token({"jku": "http://127.0.0.1:1/k"}), {}),
        "signature_invalid": (
            ISSUER.token({"kid": "k\n\u202e" + "x" * 300})[:-8] + "AAAAAAAA",
            {"kid": "k??" + "x" * 252},
        ),
    }


@pytest.mark.parametrize("fault", faults(0.0))
async def test_the_log_gets_the_reason_and_what_the_token_claims(verifier, fault: str):
    token, claimed = faults(time.time())[fault]
    with pytest.raises(Unauthenticated) as caught:
        await verifier.verify(token)
    assert caught.value.causes == {"reason": fault, "kid": "k1", "iss": "millrace", **claimed}


@pytest.mark.parametrize(("token", "fault"), [("x", "token_malformed"), ("x" * 9000, "token_too_long")])
async def test_nothing_is_known_of_what_is_no_token(verifier, token: str, fault: str):
    with pytest.raises(Unauthenticated) as caught:
        await verifier.verify(token)
    assert caught.value.causes == {"reason": fault}


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
