"""Key sets: which keys are used, and how they are fetched from a server that rotates, fails and is attacked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog

from adapters.auth import Verifier
from adapters.auth.factory import check, open_verifier, warn_of_secret
from adapters.auth.jwks import FetchedKeys
from adapters.auth.keys import BadKeys, read_set
from domain.errors import Unauthenticated, Unavailable
from domain.revocations import RevokedTokens
from runtime.settings import Auth
from tests.issuers import Issuer, KeyServer, attacks, number, open_key_server, rsa_key

OLD, NEW, CURVED = Issuer("RS256", "old"), Issuer("RS256", "new"), Issuer("ES256", "curved")


def document(*keys: object) -> bytes:
    return json.dumps({"keys": keys}).encode()


def weak() -> dict[str, object]:
    return {**OLD.jwk(), "kid": "weak", "n": number(rsa_key("weak", 1024).public_key().public_numbers().n)}


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"kty": "oct", "kid": "o", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}, "of another algorithm"),
        ({**OLD.jwk(), "alg": "PS256"}, "of another algorithm"),
        ({**OLD.jwk(), "use": "enc"}, "for another use"),
        ({**OLD.jwk(), "key_ops": ["sign"]}, "for another use"),
        ({**OLD.jwk(), "kid": None}, "without a kid"),
        ({**OLD.jwk(), "kid": ["old"]}, "without a kid"),
        ({**OLD.jwk(), "d": "AQAB"}, "private"),
        ({**OLD.jwk(), "e": "Aw"}, "too weak"),
        ({**OLD.jwk(), "n": "!"}, "too weak"),
        ({"kty": "RSA", "kid": "empty"}, "damaged"),
        (CURVED.jwk(), "of another algorithm"),
        (weak(), "too weak"),
    ],
)
def test_a_key_that_is_not_fit_is_passed_over(entry, why):
    found = read_set(document(entry, NEW.jwk()), "RS256")
    assert (list(found.keys), found.passed_over) == (["new"], {why: 1})
    with pytest.raises(BadKeys):
        read_set(document(entry), "RS256")


def test_a_curve_that_is_not_es256_is_passed_over():
    found = read_set(document({**CURVED.jwk(), "crv": "P-384", "kid": "x"}, CURVED.jwk()), "ES256")
    assert list(found.keys) == ["curved"]


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"{}", b'{"keys":1}', b'{"keys":[]}', document(OLD.jwk(), {**NEW.jwk(), "kid": "old"})],
)
def test_a_set_that_is_none_or_ambiguous_is_refused(raw):
    with pytest.raises(BadKeys):
        read_set(raw, "RS256")


@pytest.mark.parametrize(
    ("auth", "words"),
    [
        ({"secret": "short"}, "at least 32 bytes"),
        ({"secret": "s" * 40, "jwks_url": "https://id.example/keys"}, "JWKS_URL is for RS256"),
        ({"algorithm": "RS256"}, "MILLRACE_AUTH__JWKS_URL must be"),
        ({"algorithm": "ES256", "jwks_url": "http://id.example/keys"}, "an https URL"),
        ({"algorithm": "RS256", "jwks_url": "file:///etc/keys"}, "an https URL"),
        ({"algorithm": "RS256", "jwks_url": "https://id.example/keys", "secret": "s" * 40}, "SECRET is for HS256 only"),
    ],
)
def test_settings_that_mix_families_stop_the_start(auth, words):
    with pytest.raises(BadKeys, match=words):
        check(Auth(**auth))


def fetched(verifier: Verifier) -> FetchedKeys:
    assert isinstance(verifier.keys, FetchedKeys)
    return verifier.keys


@asynccontextmanager
async def checked_by(server: KeyServer, algorithm: str = "RS256", ttl_s: float = 300) -> AsyncIterator[Verifier]:
    auth = Auth(algorithm=algorithm, jwks_url=server.url, jwks_ttl_s=ttl_s)
    async with open_verifier(auth, RevokedTokens(), wait_s=0) as verifier:
        yield verifier


@pytest.mark.parametrize("issuer", [OLD, CURVED], ids=["RS256", "ES256"])
async def test_attacks_are_refused_and_fetch_no_keys(issuer):
    async with open_key_server(issuer) as server, checked_by(server, issuer.algorithm) as verifier:
        assert (await verifier.verify(issuer.token())).user_id == "bob"
        for name, token in attacks(issuer).items():
            with pytest.raises(Unauthenticated, match="the token is missing, malformed"):
                await verifier.verify(token)
                pytest.fail(name)
        for n in range(100):
            with pytest.raises(Unauthenticated):
                await verifier.verify(issuer.token({"kid": f"made up {n}"}))
        assert server.asked == 2  # at the start, and once for whatever is not known


async def test_a_new_key_is_found_by_its_first_token_once_for_all_and_the_old_one_holds_beside_it():
    async with open_key_server(OLD) as server, checked_by(server) as verifier:
        await verifier.verify(OLD.token())
        server.keys = [OLD.jwk(), NEW.jwk()]
        found = await asyncio.gather(*(verifier.verify(NEW.token(sub=f"u{n}")) for n in range(20)))
        assert len({identity.user_id for identity in found}) == 20
        await verifier.verify(OLD.token())
        assert server.asked == 2


async def test_a_key_that_is_withdrawn_ends_what_was_remembered_by_it():
    async with open_key_server(OLD, NEW) as server, checked_by(server, ttl_s=1) as verifier:
        old, new = OLD.token(), NEW.token()
        await verifier.verify(old)
        server.keys = [NEW.jwk()]
        async with asyncio.timeout(10):
            while fetched(verifier).version < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await verifier.verify(new)
        with pytest.raises(Unauthenticated):
            await verifier.verify(old)


@pytest.mark.parametrize(
    "outage",
    [{"status": 500}, {"status": 302}, {"body": b"<html>"}, {"body": b" " * 300_000}, {"keys": []}, {"hangs": True}],
    ids=["error", "redirect", "no JSON", "too large", "empty", "hangs"],
)
async def test_a_set_that_cannot_be_had_leaves_the_old_one(outage):
    async with open_key_server(OLD) as server, checked_by(server) as verifier:
        for name, value in outage.items():
            setattr(server, name, value)
        async with asyncio.timeout(4):
            with pytest.raises(Unavailable):
                await fetched(verifier).refresh()
        assert (await verifier.verify(OLD.token())).user_id == "bob"


async def test_a_token_of_a_key_that_cannot_be_fetched_is_not_called_bad():
    async with open_key_server(OLD) as server, checked_by(server) as verifier:
        server.status = 500
        for _ in range(2):  # also while it is not asked for again
            with pytest.raises(Unavailable):
                await verifier.verify(NEW.token())
        server.status, server.keys = 200, [OLD.jwk(), NEW.jwk()]
        await fetched(verifier).refresh()
        await verifier.verify(NEW.token())


async def test_unknown_kids_are_asked_for_once_a_minute_at_most():
    now = 0.0
    async with open_key_server(OLD) as server, checked_by(server) as verifier:
        fetched(verifier).clock = lambda: now
        for now in (1000.0, 1030.0, 1059.0, 1060.0, 1119.0, 1120.0):
            server.keys = [OLD.jwk()] if now < 1120 else [OLD.jwk(), NEW.jwk()]
            with pytest.raises(Unauthenticated):
                await verifier.verify(OLD.token({"kid": f"at {now}"}))
        assert server.asked == 1 + 3
        assert (await verifier.verify(NEW.token())).user_id == "bob"


async def test_without_keys_at_the_start_it_waits_and_then_gives_up():
    async with open_key_server(OLD) as server:
        server.status = 503
        with pytest.raises(Unavailable, match="status 503"):
            async with open_verifier(Auth(algorithm="RS256", jwks_url=server.url), RevokedTokens(), wait_s=0.2):
                pass
        assert server.asked >= 2


@pytest.mark.parametrize(
    ("algorithm", "host", "is_warned"),
    [
        ("HS256", "127.0.0.1", False),
        ("HS256", "::1", False),
        ("HS256", "0.0.0.0", True),
        ("HS256", "::", True),
        ("RS256", "0.0.0.0", False),
        ("ES256", "::", False),
    ],
)
def test_a_shared_secret_is_warned_of_where_other_machines_come(algorithm: Any, host: str, is_warned: bool):
    with structlog.testing.capture_logs() as logged:
        warn_of_secret(Auth(algorithm=algorithm), host)
    assert [line["event"] for line in logged] == ["tokens_by_shared_secret"] * is_warned
